//! Giving memory back that the allocator, the stack and the program's own code keep.
//!
//! Called by the monitor and the launcher, of which there is one pair per job, when they have parsed a lot or fall idle.
//! Must never be needed for correctness.
#![allow(unsafe_code)]

/// Stack below the caller that stays: room for the frames of the calls below.
const STACK_KEPT: usize = 2 << 10;
/// How far below the caller the main thread's stack is searched for pages that were used once. Deeper use is rare, and the
/// gap that the kernel keeps below a stack (1 MiB) is wider.
const STACK_SEARCHED: usize = 256 << 10;

unsafe extern "C" {
    /// First byte of the program's image, from the linker.
    static __executable_start: u8;
    /// First byte behind the program's code, from the linker.
    static etext: u8;
}

/// Returns free pages of the heap, unused pages of the main thread's stack and the program's code to the kernel. Costs some
/// tens of microseconds, and a page fault for each part of the code that is used again. To be called on the main thread
/// only.
pub fn trim() {
    trim_data();
    release_code();
}

/// The same without the code: for a program that goes on at once, as before a fork, after which both would keep what is
/// free now.
pub fn trim_data() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and changes no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
    release_stack();
}

/// Unmaps the pages of the program's code and constants before it: beginning and ending touch nearly all of them, waiting
/// very few. They stay in the page cache, from where the next use maps them again.
fn release_code() {
    let code = code();
    // SAFETY: from the image's start to the end of its code all is mapped from the program's file and never written, so that
    // it reads the same when it is mapped again. Relocated and writable data lie behind.
    unsafe { libc::madvise(code.start as *mut libc::c_void, code.len(), libc::MADV_DONTNEED) };
}

/// The whole pages of the program's code and of the constants before it.
fn code() -> std::ops::Range<usize> {
    let page = rustix::param::page_size();
    let round_down = |address: usize| address & !(page - 1);
    round_down(&raw const __executable_start as usize)..round_down(&raw const etext as usize)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of `range` that this process has mapped now.
    fn mapped(range: &std::ops::Range<usize>) -> usize {
        use std::os::unix::fs::FileExt;
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        let page = rustix::param::page_size();
        let mut entries = vec![0; range.len() / page * 8];
        pagemap.read_exact_at(&mut entries, (range.start / page * 8) as u64).unwrap();
        // The highest bit of an entry tells that the page is there; entries are in the machine's byte order.
        entries.as_chunks::<8>().0.iter().filter(|entry| u64::from_ne_bytes(**entry) >> 63 == 1).count()
    }

    #[test]
    fn code_is_given_back_and_mapped_again_when_it_runs() {
        let code = code();
        // SAFETY: reads the program's own code.
        let read =
            unsafe { libc::madvise(code.start as *mut libc::c_void, code.len(), libc::MADV_POPULATE_READ) };
        assert_eq!(read, 0, "{}", std::io::Error::last_os_error());
        let before = mapped(&code);
        release_code();
        let after = mapped(&code);
        assert!(before > 0 && after < before, "{after} of {before} pages");
    }
}
