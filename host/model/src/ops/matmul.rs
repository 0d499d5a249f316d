//! Matrix products.
//!
//! `C = A·B` or `C += A·B` on `f32`, `C` row-major. Every element of `C` is one chain of fused multiply-adds over `k` in
//! ascending order, whatever the tiling (blocks of `k` continue the chain from `C`). Hence a row's bits depend neither on
//! the number of rows nor on where the row stands, which general-purpose libraries do not promise: they take other kernels for
//! thin matrices.
//!
//! The kernel holds a tile of [`MR`]` × `[`NV`]` · 16` sums in registers, broadcasts elements of `A` and streams a panel of
//! `B` that stays in the first-level cache while all rows of `A` pass by.

use std::cell::RefCell;
use std::ops::Range;

use super::simd::{LANES, Lanes, transpose_block};
use super::threads::{self, SharedMut};

/// Rows of a register tile.
const MR: usize = 6;
/// Registers across a tile.
const NV: usize = if cfg!(all(target_arch = "x86_64", target_feature = "avx512f")) { 4 } else { 1 };
/// Columns of a tile.
const NR: usize = NV * LANES;
/// Steps of `k` taken at a time.
const KC: usize = 256;
/// Rows of `A` taken at a time: with [`KC`] and the tile's columns they stay in the second-level cache.
const MC: usize = 16 * MR;
/// Columns of `B` packed at a time, at most.
const NC: usize = 1024;

/// A matrix as seen by the product: `data[row · row_stride + col · col_stride]`, one of the strides 1.
#[derive(Clone, Copy)]
pub(super) struct Mat<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Rows of `width` values one after another.
    pub fn rows(data: &'a [f32], width: usize) -> Self {
        Self { data, row_stride: width, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn check(&self, rows: usize, cols: usize) {
        let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * self.row_stride + (cols - 1) * self.col_stride + 1 };
        assert!(self.data.len() >= needed, "matrix of {rows} × {cols} in {} values", self.data.len());
        assert!(self.row_stride == 1 || self.col_stride == 1);
    }
}

/// The right side of a product: a matrix, or one packed beforehand because several products use it.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// Packed as far as it pays, within the product.
    Mat(Mat<'a>),
    /// Packed already.
    Panels(&'a Panels),
}

impl<'a> From<Mat<'a>> for Right<'a> {
    fn from(mat: Mat<'a>) -> Self {
        Self::Mat(mat)
    }
}

/// A matrix that several products use: packed, unless it is so large that a copy would weigh more than packing again.
pub(super) enum Reused<'a> {
    Panels(Panels),
    Mat(Mat<'a>),
}

/// Values of the largest matrix that is copied whole (32 MiB).
const LARGEST_COPY: usize = 1 << 23;

impl<'a> Reused<'a> {
    /// Prepares `b` `[k, n]`.
    pub fn new(b: Mat<'a>, k: usize, n: usize) -> Self {
        if k * n <= LARGEST_COPY { Self::Panels(Panels::new(b, k, n)) } else { Self::Mat(b) }
    }
}

impl<'a> From<&'a Reused<'a>> for Right<'a> {
    fn from(reused: &'a Reused<'a>) -> Self {
        match reused {
            Reused::Panels(panels) => Self::Panels(panels),
            Reused::Mat(mat) => Self::Mat(*mat),
        }
    }
}

/// A packed matrix `[k, n]`: for each [`KC`] steps of `k` one panel `[k][NR]` after another.
pub(super) struct Panels {
    buffer: Buffer,
    k: usize,
    n: usize,
}

impl Panels {
    fn new(b: Mat, k: usize, n: usize) -> Self {
        b.check(k, n);
        let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or(Buffer(Vec::new()));
        let packed = buffer.get(k * n.next_multiple_of(NR));
        for k0 in (0..k).step_by(KC) {
            let kc = KC.min(k - k0);
            // SAFETY: `b` passed `check`.
            unsafe { pack_block(&mut packed[k0 * n.next_multiple_of(NR)..], b, k0, kc, 0..n) };
        }
        Self { buffer, k, n }
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        let buffer = std::mem::replace(&mut self.buffer, Buffer(Vec::new()));
        // Unless the thread is ending.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < 2 {
                spare.push(buffer);
            }
        });
    }
}

thread_local! {
    /// Buffers of dropped panels.
    static SPARE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
    static PACKED: RefCell<(Buffer, Buffer)> = const { RefCell::new((Buffer(Vec::new()), Buffer(Vec::new()))) };
}

/// `c = a·b` (or `c += a·b` where `accumulate`): `a` `[m, k]`, `b` `[k, n]`, `c` `[m, n]` with rows `ldc` apart.
///
/// Without `accumulate` the old content of `c` is not read.
pub(super) fn matmul<'a>(c: &mut [f32], ldc: usize, a: Mat, b: impl Into<Right<'a>>, (m, n, k): (usize, usize, usize), accumulate: bool) {
    a.check(m, k);
    let b = b.into();
    match b {
        Right::Mat(b) => b.check(k, n),
        Right::Panels(b) => assert!((b.k, b.n) == (k, n), "panels of {} × {} as a matrix of {k} × {n}", b.k, b.n),
    }
    if m == 0 || n == 0 {
        return;
    }
    assert!(ldc >= n && c.len() >= (m - 1) * ldc + n);
    if k == 0 {
        if !accumulate {
            c.chunks_mut(ldc).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let c = SharedMut::new(c);
    // Each task computes its own columns of all rows: enough of them to share, and the sums are the same for any split.
    let panels = n.div_ceil(NR);
    threads::split(panels, 2 * m * n * k, |from, to| {
        PACKED.with_borrow_mut(|packed| {
            // SAFETY: the ranges of different calls do not overlap, so every element of `c` is written by one thread; all
            // accesses lie within the bounds checked above.
            unsafe { columns(c.get().as_mut_ptr(), ldc, a, b, (m, from * NR..(to * NR).min(n), k), accumulate, packed) }
        });
    });
}

/// Columns `cols` of the product.
///
/// # Safety
/// `c` must be valid for writes to these columns of all `m` rows; `a` and `b` must have passed `check`.
unsafe fn columns(
    c: *mut f32,
    ldc: usize,
    a: Mat,
    b: Right,
    (m, cols, k): (usize, Range<usize>, usize),
    accumulate: bool,
    (a_buffer, b_buffer): &mut (Buffer, Buffer),
) {
    let pack_a = a.col_stride != 1;
    // Rows of B are used where they lie when few rows of A would repay the copy.
    let pack_b = matches!(b, Right::Mat(b) if b.col_stride != 1 || m > 4 * MR);
    // Column blocks of even width, whole panels each.
    let num_blocks = cols.len().div_ceil(NC);
    let block_width = cols.len().div_ceil(num_blocks).next_multiple_of(NR);
    let a_packed = a_buffer.get(if pack_a { MC * KC } else { 0 });
    let b_packed = b_buffer.get(if pack_b { block_width * KC } else { 0 });
    for block_start in cols.clone().step_by(block_width) {
        let block = block_start..(block_start + block_width).min(cols.end);
        for k0 in (0..k).step_by(KC) {
            let kc = KC.min(k - k0);
            let read_c = accumulate || k0 > 0;
            // SAFETY: offsets stay within the matrices, see `check`.
            unsafe {
                // Where the block's first panel begins, from one panel to the next, and from one step of k to the next.
                let (first, next_panel, next_step) = match b {
                    Right::Mat(b) if pack_b => {
                        pack_block(b_packed, b, k0, kc, block.clone());
                        (b_packed.as_ptr(), kc * NR, NR)
                    }
                    Right::Mat(b) => (b.data.as_ptr().add(k0 * b.row_stride + block.start), NR, b.row_stride),
                    Right::Panels(b) => (b.buffer.start().add(k0 * b.n.next_multiple_of(NR) + block.start * kc), kc * NR, NR),
                };
                for m0 in (0..m).step_by(MC) {
                    let mc = MC.min(m - m0);
                    let a_block = a.data.as_ptr().add(m0 * a.row_stride + k0 * a.col_stride);
                    if pack_a {
                        pack_columns(a_packed, a_block, a.col_stride, mc, kc);
                    }
                    for i in (0..mc).step_by(MR) {
                        let a =
                            if pack_a { (a_packed.as_ptr().add(i * kc), 1, MR) } else { (a_block.add(i * a.row_stride), a.row_stride, 1) };
                        for (panel, n0) in block.clone().step_by(NR).enumerate() {
                            let b = (first.add(panel * next_panel), next_step);
                            let c = (c.add((m0 + i) * ldc + n0), ldc);
                            tile(MR.min(mc - i), NR.min(block.end - n0), kc, c, a, b, read_c);
                        }
                    }
                }
            }
        }
    }
}

/// Packs steps `k0..k0 + kc` of columns `block` of `b`, panel after panel.
///
/// # Safety
/// `b` must have passed `check` for these.
unsafe fn pack_block(packed: &mut [f32], b: Mat, k0: usize, kc: usize, block: Range<usize>) {
    for (panel, n0) in packed.chunks_exact_mut(kc * NR).zip(block.clone().step_by(NR)) {
        // SAFETY: by contract.
        unsafe {
            let from = b.data.as_ptr().add(k0 * b.row_stride + n0 * b.col_stride);
            pack_panel(panel, from, (b.row_stride, b.col_stride), kc, NR.min(block.end - n0));
        }
    }
}

/// A cache line. Panels begin on one, or every load of a register would touch two.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[allow(dead_code, reason = "only ever seen as plain values")] [f32; LANES]);

/// A buffer kept from product to product.
struct Buffer(Vec<Line>);

impl Buffer {
    fn start(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    /// `len` values or more; what they are is of no interest.
    fn get(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LANES);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; LANES]));
        }
        // SAFETY: a line is sixteen values without padding.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LANES) }
    }
}

/// Copies a block of a transposed `A` (element (i, p) at `a[i + p · stride]`) into groups of [`MR`] rows, each `[p][MR]`.
///
/// # Safety
/// The `m × k` elements must be valid.
unsafe fn pack_columns(packed: &mut [f32], a: *const f32, stride: usize, m: usize, k: usize) {
    assert!(packed.len() >= m.next_multiple_of(MR) * k);
    let packed = packed.as_mut_ptr();
    for p in 0..k {
        for i in (0..m).step_by(MR) {
            // SAFETY: within `a` by contract and within `packed` by the assertion.
            unsafe { Lanes::load_part(a.add(p * stride + i), MR.min(m - i)).store_part(packed.add(i * k + p * MR), MR) };
        }
    }
}

/// Copies `k × n` elements of `B` (`n <= NR`) into a panel `[k][NR]`.
///
/// # Safety
/// The elements `b[p · row_stride + j · col_stride]` must be valid.
unsafe fn pack_panel(panel: &mut [f32], b: *const f32, (row_stride, col_stride): (usize, usize), k: usize, n: usize) {
    assert!(panel.len() == k * NR && n <= NR);
    if col_stride == 1 {
        for (p, row) in panel.chunks_exact_mut(NR).enumerate() {
            for j in (0..n).step_by(LANES) {
                // SAFETY: by contract; a row holds NR >= n values, rounded up to whole registers.
                unsafe {
                    let from = b.add(p * row_stride + j);
                    let v = if n - j >= LANES { Lanes::load(from) } else { Lanes::load_part(from, n - j) };
                    v.store(row.as_mut_ptr().add(j));
                }
            }
        }
        return;
    }
    for j in (0..n).step_by(LANES) {
        let width = LANES.min(n - j);
        let whole = if width == LANES { k / LANES * LANES } else { 0 };
        for p in (0..whole).step_by(LANES) {
            // SAFETY: sixteen columns and sixteen steps within `b` and the panel.
            unsafe { transpose_block(b.add(j * col_stride + p), col_stride, panel.as_mut_ptr().add(p * NR + j), NR) };
        }
        for p in whole..k {
            for i in j..j + width {
                // SAFETY: by contract.
                panel[p * NR + i] = unsafe { *b.add(i * col_stride + p) };
            }
        }
    }
}

/// Dispatches to the kernel of the tile's size.
#[inline(always)]
unsafe fn tile(
    rows: usize,
    cols: usize,
    k: usize,
    c: (*mut f32, usize),
    a: (*const f32, usize, usize),
    b: (*const f32, usize),
    read_c: bool,
) {
    let (whole, part) = (cols / LANES, cols % LANES);
    macro_rules! rows {
        ($nv:literal, $masked:literal) => {
            // SAFETY: the caller's contract is the kernel's.
            unsafe {
                match rows {
                    1 => kernel::<1, $nv, $masked>(k, c, a, b, read_c, part),
                    2 => kernel::<2, $nv, $masked>(k, c, a, b, read_c, part),
                    3 => kernel::<3, $nv, $masked>(k, c, a, b, read_c, part),
                    4 => kernel::<4, $nv, $masked>(k, c, a, b, read_c, part),
                    5 => kernel::<5, $nv, $masked>(k, c, a, b, read_c, part),
                    _ => kernel::<MR, $nv, $masked>(k, c, a, b, read_c, part),
                }
            }
        };
    }
    match (whole, part > 0) {
        (0, _) => rows!(1, true),
        (1, false) => rows!(1, false),
        (1, true) => rows!(2, true),
        (2, false) => rows!(2, false),
        (2, true) => rows!(3, true),
        (3, false) => rows!(3, false),
        (3, true) => rows!(4, true),
        _ => rows!(4, false),
    }
}

/// `M × W·16` sums (`W·16 - 16 + part` columns where `MASKED`): `c (+)= a·b` over `k` steps.
///
/// # Safety
/// All elements named must be valid: `c[i · ldc + j]`, `a[i · rs + p · cs]`, `b[p · ldb + j]`.
#[inline(never)]
unsafe fn kernel<const M: usize, const W: usize, const MASKED: bool>(
    k: usize,
    (c, ldc): (*mut f32, usize),
    (a, a_rs, a_cs): (*const f32, usize, usize),
    (b, ldb): (*const f32, usize),
    read_c: bool,
    part: usize,
) {
    unsafe {
        let mut sums = [[Lanes::splat(0.0); W]; M];
        if read_c {
            for (i, row) in sums.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    let p = c.add(i * ldc + j * LANES);
                    *sum = if MASKED && j == W - 1 { Lanes::load_part(p, part) } else { Lanes::load(p) };
                }
            }
        }
        let (mut a, mut b) = (a, b);
        for _ in 0..k {
            let mut v = [Lanes::splat(0.0); W];
            for (j, v) in v.iter_mut().enumerate() {
                let p = b.add(j * LANES);
                *v = if MASKED && j == W - 1 { Lanes::load_part(p, part) } else { Lanes::load(p) };
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let x = Lanes::splat(*a.add(i * a_rs));
                for (sum, v) in row.iter_mut().zip(v) {
                    *sum = x.mul_add(v, *sum);
                }
            }
            a = a.add(a_cs);
            b = b.add(ldb);
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                let p = c.add(i * ldc + j * LANES);
                if MASKED && j == W - 1 { sum.store_part(p, part) } else { sum.store(p) }
            }
        }
    }
}
