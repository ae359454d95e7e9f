//! The process's allocator: mimalloc, and for large blocks the operating system; and the size of its pages.
//!
//! mimalloc gives each thread a heap, and a block that another thread frees stays in it until its thread allocates again. A large
//! value passes through many threads, so each of them kept some megabytes that nobody used. A block of the operating system's own
//! goes back to it when it is freed, from whichever thread.
//!
//! mimalloc asks for huge pages of 2 MiB. Each thread's heap touches some of many of them, and the process has all of each in memory: 20 to
//! 40 % more, for requests that are not measurably faster. So it has none (as Redis's `disable-thp` does).

use std::alloc::{GlobalAlloc, Layout, System};

use mimalloc::MiMalloc;

/// From this size on, in bytes, a block is the operating system's. Few values are so long: new pages cost time, and values of 2 MiB
/// that were treated so were read at six tenths of the rate.
const LARGE_BYTES: usize = 4 << 20;

/// See the module's text.
pub struct Allocator;

impl Allocator {
    /// Settings of the process, for its start. The C library takes each large block from the operating system by itself, and gives it
    /// back by itself: by default it keeps blocks of the size of those that were freed, up to 32 MiB. And no page is a huge one.
    pub fn set_up() {
        #[cfg(target_env = "gnu")]
        {
            let bytes = i32::try_from(LARGE_BYTES).expect("a small number");
            #[expect(unsafe_code, reason = "a setting of the C library: it touches no memory of ours")]
            let done = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
            debug_assert_eq!(done, 1, "the C library has this setting");
        }
        #[cfg(target_os = "linux")]
        {
            // A kernel without this setting has no huge pages.
            let _ = nix::sys::prctl::set_thp_disable(true);
        }
    }
}

#[expect(
    unsafe_code,
    reason = "a global allocator; each call is passed on as it is, and a block's size tells whose it is"
)]
// SAFETY: the layout that comes back with a block is the one that it was allocated with, so both calls choose the same owner, and
// the owner keeps the contract.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { if layout.size() < LARGE_BYTES { MiMalloc.alloc(layout) } else { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe {
            if layout.size() < LARGE_BYTES {
                MiMalloc.alloc_zeroed(layout)
            } else {
                System.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe {
            if layout.size() < LARGE_BYTES {
                MiMalloc.dealloc(block, layout)
            } else {
                System.dealloc(block, layout)
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        match (layout.size() < LARGE_BYTES, bytes < LARGE_BYTES) {
            // SAFETY: passed on as it came, to the owner of both sizes.
            (true, true) => return unsafe { MiMalloc.realloc(block, layout, bytes) },
            // SAFETY: the same.
            (false, false) => return unsafe { System.realloc(block, layout, bytes) },
            _ => {}
        }
        // SAFETY: the caller promises that the new size, with this alignment, is a layout.
        let moved_layout = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        // SAFETY: the new size is not zero, as the caller promises.
        let moved = unsafe { self.alloc(moved_layout) };
        if !moved.is_null() {
            // SAFETY: both blocks have so many bytes, and they are two; the old one is the caller's to give.
            unsafe {
                moved.copy_from_nonoverlapping(block, layout.size().min(bytes));
                self.dealloc(block, layout);
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn no_page_of_the_process_is_a_huge_one() {
        Allocator::set_up();
        assert_eq!(nix::sys::prctl::get_thp_disable(), Ok(true));
    }

    #[test]
    fn a_block_that_grows_and_shrinks_past_its_owner_keeps_its_bytes() {
        Allocator::set_up();
        let byte = |at: usize| (at % 251) as u8;
        let mut block: Vec<u8> = (0..LARGE_BYTES - 1).map(byte).collect();
        for bytes in [LARGE_BYTES + 1, 3 * LARGE_BYTES, LARGE_BYTES, LARGE_BYTES - 1, 1] {
            block.truncate(bytes);
            block.shrink_to_fit();
            block.reserve_exact(bytes - block.len());
            block.extend((block.len()..bytes).map(byte));
            assert!(block.iter().enumerate().all(|(at, found)| *found == byte(at)), "at {bytes} bytes");
        }
        assert_eq!(
            vec![0_u8; 2 * LARGE_BYTES].iter().max(),
            Some(&0),
            "fresh memory that is asked for as zeros"
        );
    }
}
