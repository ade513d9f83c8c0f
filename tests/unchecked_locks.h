// SPDX-License-Identifier: Apache-2.0
// For suites whose subject are locks: they lock in one goroutine and unlock in another, or not at all, which clang's
// analysis rightly calls wrong. To be included last.
#pragma once

#if defined(__clang__)
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif
