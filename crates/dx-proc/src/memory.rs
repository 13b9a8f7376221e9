//! Giving memory back that the allocator keeps.
//!
//! Called by the monitor, of which there is one per job, when it has parsed a lot or is about to fork its launcher. Must
//! never be needed for correctness.
#![allow(unsafe_code)]

/// Returns free pages of the heap to the kernel. Costs some tens of microseconds; does nothing without glibc.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and changes no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}
