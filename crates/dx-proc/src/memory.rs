//! Giving memory back that the allocator and the stack keep.
//!
//! Called by the monitor and the launcher, of which there is one pair per job, when they have parsed a lot or fall idle.
//! Must never be needed for correctness.
#![allow(unsafe_code)]

/// Stack below the caller that stays: room for the frames of the calls below.
const STACK_KEPT: usize = 2 << 10;
/// How far below the caller the main thread's stack is searched for pages that were used once. Deeper use is rare, and the
/// gap that the kernel keeps below a stack (1 MiB) is wider.
const STACK_SEARCHED: usize = 256 << 10;

/// Returns free pages of the heap and unused pages of the main thread's stack to the kernel. Costs some tens of
/// microseconds. To be called on the main thread only.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and changes no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
    release_stack();
}

/// Drops the pages below the present frames; they read as zeros when the stack grows there again.
#[inline(never)]
fn release_stack() {
    let mark = 0u8;
    let page = rustix::param::page_size();
    let here = std::ptr::from_ref(&mark) as usize;
    let end = (here - STACK_KEPT) & !(page - 1);
    let start = (here - STACK_SEARCHED) & !(page - 1);
    // SAFETY: the range lies wholly below every live frame of this thread, beyond the red zone. What of it is not mapped
    // (a stack that never grew so far, or the gap below it) is passed over: the call then answers ENOMEM, which means no
    // harm.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
}
