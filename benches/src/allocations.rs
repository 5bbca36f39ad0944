//! An allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

// Of the thread, so that counting is as cheap as it can be, and not a cache line that all share.
thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

/// The system's allocator; counts what the thread has asked it for.
pub struct Counting;

/// How often this thread has asked for memory, new or more.
#[must_use]
pub fn count() -> u64 {
    COUNT.get()
}

#[expect(unsafe_code, reason = "there is no other way to count allocations")]
// SAFETY: all is passed on to the system's allocator as it came. Counting does not allocate: the
// cell is initialised at compile time and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}
