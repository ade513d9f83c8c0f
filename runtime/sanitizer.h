// SPDX-License-Identifier: Apache-2.0
// What sanitizers must be told about goroutine stacks. Everything here is nothing in an ordinary build.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

namespace weft::rt {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

#if defined(__SANITIZE_THREAD__)
inline void* create_fiber() { return __tsan_create_fiber(0); }
inline void destroy_fiber(void* fiber) { __tsan_destroy_fiber(fiber); }
inline void* current_fiber() { return __tsan_get_current_fiber(); }
inline void before_switch_fiber(void* fiber) { __tsan_switch_to_fiber(fiber, 0); }
#else
inline void* create_fiber() { return nullptr; }
inline void destroy_fiber(void*) {}
inline void* current_fiber() { return nullptr; }
inline void before_switch_fiber(void*) {}
#endif

#if defined(__SANITIZE_ADDRESS__)
/// `save` null: the stack that is left has ended for good.
inline void before_switch_stack(void** save, const void* low, std::size_t size) {
  __sanitizer_start_switch_fiber(save, low, size);
}
inline void after_switch_stack(void* fake, const void** low_before, std::size_t* size_before) {
  __sanitizer_finish_switch_fiber(fake, low_before, size_before);
}
inline void register_roots(const void* p, std::size_t size) { __lsan_register_root_region(p, size); }
inline void unregister_roots(const void* p, std::size_t size) { __lsan_unregister_root_region(p, size); }
inline void unpoison(const void* p, std::size_t size) { __asan_unpoison_memory_region(p, size); }
#else
inline void before_switch_stack(void**, const void*, std::size_t) {}
inline void after_switch_stack(void*, const void**, std::size_t*) {}
inline void register_roots(const void*, std::size_t) {}
inline void unregister_roots(const void*, std::size_t) {}
inline void unpoison(const void*, std::size_t) {}
#endif

}  // namespace weft::rt
