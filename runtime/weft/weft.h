// SPDX-License-Identifier: Apache-2.0
// All of weft's public interface.
#pragma once

#include <weft/attach.h>
#include <weft/chan.h>
#include <weft/context.h>
#include <weft/error.h>
#include <weft/io.h>
#include <weft/metrics.h>
#include <weft/net.h>
#include <weft/numa.h>
#include <weft/runtime.h>
#include <weft/select.h>
#include <weft/sync.h>
#include <weft/time.h>
#include <weft/trace.h>

/// Goroutines, channels, and what goes with them.
namespace weft {}
