//! How many threads an operation may use.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static THREADS: Cell<usize> = const { Cell::new(1) };
}

/// How many threads the operations called from this thread may use (1 unless inside [`with_threads`]).
pub fn threads() -> usize {
    THREADS.get()
}

/// Runs `f` with operations allowed to use `n` threads (at least 1) for their matrix products.
///
/// The setting holds for the calling thread and for the duration of `f`, also when `f` panics.
pub fn with_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            THREADS.set(self.0);
        }
    }
    let _restore = Restore(THREADS.replace(n.max(1)));
    f()
}

/// A slice that several threads write to, each its own part.
#[derive(Clone, Copy)]
pub(super) struct SharedMut<'a> {
    data: *mut f32,
    len: usize,
    _slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: a plain pointer to `f32`; that parts are disjoint is the contract of `get`.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// Shares `slice`.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { data: slice.as_mut_ptr(), len: slice.len(), _slice: PhantomData }
    }

    /// The whole slice.
    ///
    /// # Safety
    /// No element may be written by one thread while another reads or writes it.
    pub unsafe fn get(&self) -> &'a mut [f32] {
        // SAFETY: `new` borrowed this slice mutably for 'a; exclusive use is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

/// Work (floating-point operations) below which a split over threads costs more than it gains.
const SPLIT_FROM: usize = 2_000_000;

/// Calls `f(from, to)` for consecutive ranges of `0..items`, on as many threads as [`threads`] allows.
pub(super) fn split(items: usize, work: usize, f: impl Fn(usize, usize) + Sync) {
    let n = threads().min(items).min(work / SPLIT_FROM + 1);
    if n <= 1 {
        return f(0, items);
    }
    rayon::scope(|scope| {
        for i in 1..n {
            let f = &f;
            scope.spawn(move |_| with_threads(1, || f(items * i / n, items * (i + 1) / n)));
        }
        // Not split again inside: a thread that waits could be given another range while it holds its buffers.
        with_threads(1, || f(0, items / n));
    });
}
