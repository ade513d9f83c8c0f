// SPDX-License-Identifier: Apache-2.0
// Which lock guards what, for clang's -Wthread-safety; nothing for other compilers. weft's locks are capabilities, so a
// program may use these macros for its own data too.
#pragma once

/// An attribute for the compilers that know the analysis.
#if defined(__clang__)
#define WEFT_ATTRIBUTE(x) __attribute__((x))
#else
#define WEFT_ATTRIBUTE(x)
#endif

/// A class that is a lock.
#define WEFT_CAPABILITY(name) WEFT_ATTRIBUTE(capability(name))
/// A class that holds a lock for as long as it lives.
#define WEFT_SCOPED_CAPABILITY WEFT_ATTRIBUTE(scoped_lockable)
/// Data that is touched only with this lock.
#define WEFT_GUARDED_BY(lock) WEFT_ATTRIBUTE(guarded_by(lock))
/// A function that takes these locks; here and below, without an argument the lock is the object.
#define WEFT_ACQUIRE(...) WEFT_ATTRIBUTE(acquire_capability(__VA_ARGS__))
/// The same, for reading.
#define WEFT_ACQUIRE_SHARED(...) WEFT_ATTRIBUTE(acquire_shared_capability(__VA_ARGS__))
/// A function that takes a lock if it returns the first argument.
#define WEFT_TRY_ACQUIRE(...) WEFT_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
/// The same, for reading.
#define WEFT_TRY_ACQUIRE_SHARED(...) WEFT_ATTRIBUTE(try_acquire_shared_capability(__VA_ARGS__))
/// A function that leaves with these locks released.
#define WEFT_RELEASE(...) WEFT_ATTRIBUTE(release_capability(__VA_ARGS__))
/// The same, of locks that were taken for reading.
#define WEFT_RELEASE_SHARED(...) WEFT_ATTRIBUTE(release_shared_capability(__VA_ARGS__))
/// A function that wants these locks held.
#define WEFT_REQUIRES(...) WEFT_ATTRIBUTE(requires_capability(__VA_ARGS__))
/// For functions that the analysis cannot follow; a comment there says why.
#define WEFT_NO_THREAD_SAFETY_ANALYSIS WEFT_ATTRIBUTE(no_thread_safety_analysis)
