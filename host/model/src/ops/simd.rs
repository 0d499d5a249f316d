//! Sixteen `f32` lanes: AVX-512 registers where the build's processor has them, otherwise an array that the compiler
//! vectorises for what there is.

/// Lanes of a [`Lanes`].
pub(super) const LANES: usize = 16;

#[cfg(all(target_arch = "x86_64", target_feature = "avx512f"))]
mod imp {
    use std::arch::x86_64::*;

    /// Sixteen `f32`.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Lanes(__m512);

    impl Lanes {
        #[inline(always)]
        pub fn splat(x: f32) -> Self {
            // SAFETY (here and below): this module is compiled only where AVX-512F is enabled for the whole build.
            Self(unsafe { _mm512_set1_ps(x) })
        }
        /// Reads sixteen values.
        ///
        /// # Safety
        /// `p` must be readable for sixteen values (no alignment asked).
        #[inline(always)]
        pub unsafe fn load(p: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(p) })
        }
        /// Reads `n < 16` values, the other lanes are 0.
        ///
        /// # Safety
        /// `p` must be readable for `n` values.
        #[inline(always)]
        pub unsafe fn load_part(p: *const f32, n: usize) -> Self {
            Self(unsafe { _mm512_maskz_loadu_ps((1u16 << n) - 1, p) })
        }
        /// Writes sixteen values.
        ///
        /// # Safety
        /// `p` must be writable for sixteen values.
        #[inline(always)]
        pub unsafe fn store(self, p: *mut f32) {
            unsafe { _mm512_storeu_ps(p, self.0) }
        }
        /// Writes the first `n < 16` values.
        ///
        /// # Safety
        /// `p` must be writable for `n` values.
        #[inline(always)]
        pub unsafe fn store_part(self, p: *mut f32, n: usize) {
            unsafe { _mm512_mask_storeu_ps(p, (1u16 << n) - 1, self.0) }
        }
        /// `self · b + c`, rounded once.
        #[inline(always)]
        pub fn mul_add(self, b: Self, c: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        pub fn max(self, b: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, b.0) })
        }
        #[inline(always)]
        pub fn min(self, b: Self) -> Self {
            Self(unsafe { _mm512_min_ps(self.0, b.0) })
        }
        #[inline(always)]
        pub fn sqrt(self) -> Self {
            Self(unsafe { _mm512_sqrt_ps(self.0) })
        }
        /// Nearest integers.
        #[inline(always)]
        pub fn round(self) -> Self {
            Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
        }
        /// `self · 2^n` for integral `n`.
        #[inline(always)]
        pub fn scale_by_power(self, n: Self) -> Self {
            Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
        }
        /// Sum of the lanes, always in the same order.
        #[inline(always)]
        pub fn sum(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
        /// Lanes of `positive` where `x > 0`, of `self` elsewhere.
        #[inline(always)]
        pub fn where_positive(self, x: Self, positive: Self) -> Self {
            unsafe {
                let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x.0, _mm512_setzero_ps());
                Self(_mm512_mask_blend_ps(mask, self.0, positive.0))
            }
        }
        /// Largest lane.
        #[inline(always)]
        pub fn max_lane(self) -> f32 {
            unsafe { _mm512_reduce_max_ps(self.0) }
        }
    }

    macro_rules! operator {
        ($trait:ident, $method:ident, $intrinsic:ident) => {
            impl std::ops::$trait for Lanes {
                type Output = Self;
                #[inline(always)]
                fn $method(self, b: Self) -> Self {
                    Self(unsafe { $intrinsic(self.0, b.0) })
                }
            }
        };
    }
    /// Transposes 16 × 16 values: `to[p · to_stride + j] = from[j · from_stride + p]`.
    ///
    /// # Safety
    /// All these elements must be valid.
    #[inline(always)]
    pub(in super::super) unsafe fn transpose_block(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let r: [__m512; 16] = std::array::from_fn(|i| _mm512_loadu_ps(from.add(i * from_stride)));
            // Pairs of rows, then quadruples, within each 128-bit lane.
            let t: [__m512; 16] = std::array::from_fn(|i| {
                let (a, b) = (r[i & !1], r[i | 1]);
                if i & 1 == 0 { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) }
            });
            let q: [__m512; 16] = std::array::from_fn(|i| {
                let base = i & !3;
                let (a, b) = (t[base + ((i >> 1) & 1)], t[base + 2 + ((i >> 1) & 1)]);
                let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                _mm512_castpd_ps(if i & 1 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) })
            });
            // Now q[4g + c] holds, in lane l, column 4l + c of rows 4g..4g+4: transpose the lanes across the groups.
            for c in 0..4 {
                let lo = _mm512_shuffle_f32x4::<0x44>(q[c], q[4 + c]);
                let hi = _mm512_shuffle_f32x4::<0xee>(q[c], q[4 + c]);
                let lo2 = _mm512_shuffle_f32x4::<0x44>(q[8 + c], q[12 + c]);
                let hi2 = _mm512_shuffle_f32x4::<0xee>(q[8 + c], q[12 + c]);
                let row = |l: usize| to.add((4 * l + c) * to_stride);
                _mm512_storeu_ps(row(0), _mm512_shuffle_f32x4::<0x88>(lo, lo2));
                _mm512_storeu_ps(row(1), _mm512_shuffle_f32x4::<0xdd>(lo, lo2));
                _mm512_storeu_ps(row(2), _mm512_shuffle_f32x4::<0x88>(hi, hi2));
                _mm512_storeu_ps(row(3), _mm512_shuffle_f32x4::<0xdd>(hi, hi2));
            }
        }
    }
    operator!(Add, add, _mm512_add_ps);
    operator!(Sub, sub, _mm512_sub_ps);
    operator!(Mul, mul, _mm512_mul_ps);
    operator!(Div, div, _mm512_div_ps);
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx512f")))]
mod imp {
    use super::LANES;

    /// Sixteen `f32`.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Lanes([f32; LANES]);

    /// Multiplies and adds, fused where the processor can.
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
    }

    impl Lanes {
        #[inline(always)]
        fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
            Self(std::array::from_fn(|i| f(self.0[i], b.0[i])))
        }
        #[inline(always)]
        pub fn splat(x: f32) -> Self {
            Self([x; LANES])
        }
        /// Reads sixteen values.
        ///
        /// # Safety
        /// `p` must be readable for sixteen values (no alignment asked).
        #[inline(always)]
        pub unsafe fn load(p: *const f32) -> Self {
            Self(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
        }
        /// Reads `n < 16` values, the other lanes are 0.
        ///
        /// # Safety
        /// `p` must be readable for `n` values.
        #[inline(always)]
        pub unsafe fn load_part(p: *const f32, n: usize) -> Self {
            let mut lanes = [0.0; LANES];
            lanes[..n].copy_from_slice(unsafe { std::slice::from_raw_parts(p, n) });
            Self(lanes)
        }
        /// Writes sixteen values.
        ///
        /// # Safety
        /// `p` must be writable for sixteen values.
        #[inline(always)]
        pub unsafe fn store(self, p: *mut f32) {
            unsafe { p.cast::<[f32; LANES]>().write_unaligned(self.0) }
        }
        /// Writes the first `n < 16` values.
        ///
        /// # Safety
        /// `p` must be writable for `n` values.
        #[inline(always)]
        pub unsafe fn store_part(self, p: *mut f32, n: usize) {
            unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), p, n) }
        }
        /// `self · b + c`, rounded once where the processor has fused operations.
        #[inline(always)]
        pub fn mul_add(self, b: Self, c: Self) -> Self {
            Self(std::array::from_fn(|i| fma(self.0[i], b.0[i], c.0[i])))
        }
        #[inline(always)]
        pub fn max(self, b: Self) -> Self {
            self.zip(b, |a, b| if a > b { a } else { b })
        }
        #[inline(always)]
        pub fn min(self, b: Self) -> Self {
            self.zip(b, |a, b| if a < b { a } else { b })
        }
        #[inline(always)]
        pub fn sqrt(self) -> Self {
            Self(self.0.map(f32::sqrt))
        }
        /// Nearest integers.
        #[inline(always)]
        pub fn round(self) -> Self {
            Self(self.0.map(f32::round_ties_even))
        }
        /// `self · 2^n` for integral `n` (0 below the range of normal numbers).
        #[inline(always)]
        pub fn scale_by_power(self, n: Self) -> Self {
            self.zip(n, |a, n| if n < -126.0 { 0.0 } else { a * f32::from_bits(((n as i32 + 127) << 23) as u32) })
        }
        /// Sum of the lanes, always in the same order.
        #[inline(always)]
        pub fn sum(self) -> f32 {
            let mut lanes = self.0;
            let mut half = LANES / 2;
            while half > 0 {
                for i in 0..half {
                    lanes[i] += lanes[i + half];
                }
                half /= 2;
            }
            lanes[0]
        }
        /// Lanes of `positive` where `x > 0`, of `self` elsewhere.
        #[inline(always)]
        pub fn where_positive(self, x: Self, positive: Self) -> Self {
            Self(std::array::from_fn(|i| if x.0[i] > 0.0 { positive.0[i] } else { self.0[i] }))
        }
        /// Largest lane.
        #[inline(always)]
        pub fn max_lane(self) -> f32 {
            self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
        }
    }

    macro_rules! operator {
        ($trait:ident, $method:ident, $symbol:tt) => {
            impl std::ops::$trait for Lanes {
                type Output = Self;
                #[inline(always)]
                fn $method(self, b: Self) -> Self {
                    self.zip(b, |a, b| a $symbol b)
                }
            }
        };
    }
    /// Transposes 16 × 16 values: `to[p · to_stride + j] = from[j · from_stride + p]`.
    ///
    /// # Safety
    /// All these elements must be valid.
    #[inline(always)]
    pub(in super::super) unsafe fn transpose_block(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for p in 0..LANES {
            for j in 0..LANES {
                unsafe { *to.add(p * to_stride + j) = *from.add(j * from_stride + p) };
            }
        }
    }
    operator!(Add, add, +);
    operator!(Sub, sub, -);
    operator!(Mul, mul, *);
    operator!(Div, div, /);
}

pub(super) use imp::{Lanes, transpose_block};

impl Lanes {
    /// `e^x` to about two units in the last place; as good as 0 below -88, `e^88` above 88, NaN of NaN.
    ///
    /// `x = n·ln 2 + r` with |r| ≤ ln 2 / 2, then Cephes' polynomial for `e^r`.
    #[inline(always)]
    pub fn exp(self) -> Self {
        let c = Self::splat;
        // Constants on the left: NaN passes through minimum and maximum.
        let x = c(-104.0).max(c(88.0).min(self));
        let n = (x * c(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(c(-0.693_359_4), x);
        let r = n.mul_add(c(2.121_944_4e-4), r);
        let mut p = c(1.987_569_1e-4);
        for k in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.mul_add(r, c(k));
        }
        p.mul_add(r * r, r + c(1.0)).scale_by_power(n)
    }

    /// `1 / (1 + e^-x)`.
    #[inline(always)]
    pub fn sigmoid(self) -> Self {
        let one = Self::splat(1.0);
        one / (one + (Self::splat(0.0) - self).exp())
    }
}

/// Reads lanes `i..` of `x`: sixteen, or what is left (0 in the other lanes).
#[inline(always)]
pub(super) fn load(x: &[f32], i: usize) -> Lanes {
    let left = x.len() - i;
    // SAFETY: `left` values are readable from `i` on.
    unsafe { if left >= LANES { Lanes::load(x.as_ptr().add(i)) } else { Lanes::load_part(x.as_ptr().add(i), left) } }
}

/// Writes lanes `i..` of `x`: sixteen, or as many as are left.
#[inline(always)]
pub(super) fn store(x: &mut [f32], i: usize, v: Lanes) {
    let left = x.len() - i;
    // SAFETY: `left` values are writable from `i` on.
    unsafe { if left >= LANES { v.store(x.as_mut_ptr().add(i)) } else { v.store_part(x.as_mut_ptr().add(i), left) } }
}

/// `y += x`.
#[inline]
pub(super) fn add_assign(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len());
    for i in (0..y.len()).step_by(LANES) {
        let sum = load(y, i) + load(x, i);
        store(y, i, sum);
    }
}

/// `Σ a·b`, summed in an order that depends on the length only.
#[inline]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut sums = [Lanes::splat(0.0); 4];
    for i in (0..a.len()).step_by(4 * LANES) {
        for (k, sum) in sums.iter_mut().enumerate() {
            let i = i + k * LANES;
            if i < a.len() {
                *sum = load(a, i).mul_add(load(b, i), *sum);
            }
        }
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        let xs: Vec<f32> = (-8700..8800).map(|i| i as f32 * 0.01).chain([0.0, -1e-9, 1e-9]).collect();
        let mut ys = vec![0.0; xs.len()];
        for i in (0..xs.len()).step_by(LANES) {
            store(&mut ys, i, load(&xs, i).exp());
        }
        for (x, y) in xs.iter().zip(&ys) {
            let exact = f64::from(*x).exp();
            assert!(((f64::from(*y) - exact) / exact).abs() < 3e-7, "exp({x}) = {y}, not {exact}");
        }
    }

    #[test]
    fn exp_vanishes_and_saturates() {
        let xs = [f32::NEG_INFINITY, -1000.0, -110.0, 0.0, 1000.0];
        let mut ys = [0.0; 5];
        store(&mut ys, 0, load(&xs, 0).exp());
        assert!(ys[0].abs() < 1e-38 && ys[1].abs() < 1e-38 && ys[2].abs() < 1e-38, "{ys:?}");
        assert_eq!(ys[3], 1.0);
        assert!(ys[4].is_finite() && ys[4] > 1e38, "{ys:?}");
    }

    #[test]
    fn odd_lengths_are_summed_whole() {
        for n in [0, 1, 15, 16, 17, 63, 64, 65, 200] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let mut y = vec![1.0; n];
            add_assign(&mut y, &a);
            let want: f32 = (0..n).map(|i| (i * i) as f32).sum();
            assert!((dot(&a, &a) - want).abs() <= want * 1e-6);
            assert!(y.iter().enumerate().all(|(i, &y)| y == 1.0 + i as f32));
        }
    }
}
