//! Limits the memory that an input may cost. libFuzzer's own limits need a sanitizer, and include the
//! fuzzer's memory. This allocator counts only the allocations of Rust code.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The number of bytes that any input may cost.
const BASE: usize = 4 * 1024 * 1024;
/// The number of additional bytes that each byte of an input may cost.
const FACTOR: usize = 512;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all calls go to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        // Printing a panic needs memory too.
        if live > LIMIT.load(Relaxed) && !std::thread::panicking() {
            LIMIT.store(usize::MAX, Relaxed);
            panic!("{live} bytes in use: too much for such an input");
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Runs `work`, and panics if it uses more memory than an input of `length` bytes may cost.
pub fn within<T>(length: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.store(LIVE.load(Relaxed) + BASE + FACTOR * length, Relaxed);
    let result = work();
    LIMIT.store(usize::MAX, Relaxed);
    result
}
