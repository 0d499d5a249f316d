//! How many threads an operation may use.

use std::cell::Cell;

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
