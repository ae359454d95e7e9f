//! How much memory a piece of work holds: the allocator of all tests that use this crate counts, for each thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The most that `work` held at once on this thread, in bytes, beyond what was held before.
pub(crate) fn peak_bytes(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    usize::try_from(PEAK.get() - before).expect("the peak is not below where it started")
}

thread_local! {
    /// Signed: what one thread allocates another may free.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(grown: isize) {
    let held = HELD.get() + grown;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

#[expect(
    unsafe_code,
    reason = "every call goes to the system's allocator as it is; nothing but a count is added"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_what_was_held_at_once() {
        let peak = peak_bytes(|| {
            drop(Vec::<u8>::with_capacity(1000));
            drop([Vec::<u8>::with_capacity(4000), Vec::with_capacity(3000)]);
        });
        assert_eq!(peak, 7000);
    }
}
