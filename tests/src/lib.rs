//! Helpers shared by the whole-program tests in `tests/`.
