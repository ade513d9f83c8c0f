// SPDX-License-Identifier: Apache-2.0
// Which lock guards what, for clang's -Wthread-safety; nothing for other compilers. weft's locks are capabilities, so a
// program may use these macros for its own data too.
#pragma once

#if defined(__clang__)
/// An attribute of clang; nothing elsewhere.
#define WEFT_ATTRIBUTE(x) __attribute__((x))
#else
/// An attribute of clang; nothing elsewhere.
#define WEFT_ATTRIBUTE(x)
#endif

/// A class that is a lock.
#define WEFT_CAPABILITY(name) WEFT_ATTRIBUTE(capability(name))
/// A class that holds a lock for as long as it lives.
#define WEFT_SCOPED_CAPABILITY WEFT_ATTRIBUTE(scoped_lockable)
/// Data that is touched only with this lock.
#define WEFT_GUARDED_BY(lock) WEFT_ATTRIBUTE(guarded_by(lock))
/// Takes these locks; without an argument, here and below, the lock is the object itself.
#define WEFT_ACQUIRE(...) WEFT_ATTRIBUTE(acquire_capability(__VA_ARGS__))
/// Takes them for reading.
#define WEFT_ACQUIRE_SHARED(...) WEFT_ATTRIBUTE(acquire_shared_capability(__VA_ARGS__))
/// Takes them if it returns the first argument (true, say).
#define WEFT_TRY_ACQUIRE(...) WEFT_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
/// The same for reading.
#define WEFT_TRY_ACQUIRE_SHARED(...) WEFT_ATTRIBUTE(try_acquire_shared_capability(__VA_ARGS__))
/// Leaves with them released.
#define WEFT_RELEASE(...) WEFT_ATTRIBUTE(release_capability(__VA_ARGS__))
/// Leaves with them released that were held for reading.
#define WEFT_RELEASE_SHARED(...) WEFT_ATTRIBUTE(release_shared_capability(__VA_ARGS__))
/// Wants them held.
#define WEFT_REQUIRES(...) WEFT_ATTRIBUTE(requires_capability(__VA_ARGS__))
/// For functions that the analysis cannot follow; a comment there says why.
#define WEFT_NO_THREAD_SAFETY_ANALYSIS WEFT_ATTRIBUTE(no_thread_safety_analysis)
