//! Max pooling, of a map as it is or normalised on the way, and averages.

use headstart_kernels::element::Element;
use headstart_kernels::elementwise;
use headstart_kernels::norm;
use headstart_kernels::pool::{self, Normalize, PoolShape, PoolSizes};
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Want, gamma, nan, wide};
use crate::support::{elements, noise};

fn shape([batch, height, width, channels, pool, stride, padding]: [usize; 7]) -> PoolShape {
    let sizes = PoolSizes { batch, height, width, channels, pool, stride, padding };
    PoolShape::new(sizes).expect("sizes")
}

fn shapes() -> Vec<PoolShape> {
    let list = [
        [2, 7, 6, 5, 3, 2, 0],
        [2, 8, 9, 64, 3, 2, 1],
        [2, 6, 7, 131, 3, 2, 1],
        [2, 4, 4, 17, 1, 2, 0],
        [2, 19, 9, 64, 3, 2, 1],
        [2, 5, 5, 1, 2, 2, 0],
        [2, 6, 4, 17, 3, 1, 1],
        [3, 40, 31, 96, 3, 2, 1],
        // Windows that see only padding, and strides that leave rows out.
        [1, 3, 3, 2, 2, 2, 3],
        [1, 9, 7, 3, 2, 5, 1],
    ];
    list.map(shape).to_vec()
}

fn small() -> BoxedStrategy<PoolShape> {
    let sizes = (1..3usize, 1..9usize, 1..9usize, 1..70usize, 1..5usize, 1..4usize, 0..3usize);
    let shape = |(batch, height, width, channels, pool, stride, padding)| {
        let fits = pool <= Ord::min(height, width) + 2 * padding;
        fits.then(|| shape([batch, height, width, channels, pool, stride, padding]))
    };
    sizes.prop_filter_map("a window larger than the input", shape).boxed()
}

/// For every output its window's first largest value, and where it is; `None` in the padding.
fn windows(s: &PoolShape, x: &[f64]) -> Vec<(f64, Option<usize>)> {
    let mut list = Vec::new();
    for b in 0..s.batch() {
        for oy in 0..s.out_height() {
            for ox in 0..s.out_width() {
                for k in 0..s.channels() {
                    let mut best: Option<(f64, Option<usize>)> = None;
                    for i in 0..s.pool() * s.pool() {
                        let row = oy * s.stride() + i / s.pool();
                        let column = ox * s.stride() + i % s.pool();
                        let (r, q) =
                            (row.wrapping_sub(s.padding()), column.wrapping_sub(s.padding()));
                        let at = ((b * s.height()).wrapping_add(r))
                            .wrapping_mul(s.width())
                            .wrapping_add(q);
                        let cell = match r < s.height() && q < s.width() {
                            true => (x[at * s.channels() + k], Some(at * s.channels() + k)),
                            false => (0.0, None),
                        };
                        if best.is_none_or(|(value, _)| cell.0 > value) {
                            best = Some(cell);
                        }
                    }
                    list.push(best.expect("a window"));
                }
            }
        }
    }
    list
}

/// The largest values of all windows.
pub fn maxima(s: &PoolShape, x: &[f64]) -> Vec<f64> {
    windows(s, x).into_iter().map(|(value, _)| value).collect()
}

/// Values of which many are equal.
fn map<E: Element>(len: usize) -> Vec<E> {
    noise(len, 3).into_iter().map(|x| E::from_f32((x * 4.0).round())).collect()
}

/// `pool::max_pool` and `pool::max_pool_backward`.
pub struct Max;

impl Kernel for Max {
    type Shape = PoolShape;

    fn edges() -> Vec<PoolShape> {
        shapes()
    }

    fn small() -> BoxedStrategy<PoolShape> {
        small()
    }

    fn run<E: Element>(c: &Compute, s: &PoolShape) -> Vec<Vec<f64>> {
        let (x, dy) = (map::<E>(s.in_len()), elements::<E>(s.out_len(), 4).0);
        let mut y = nan::<E>(s.out_len());
        pool::max_pool(c, s, &x, None, &mut y);
        let gradient = |rectified: bool| {
            let mut dx = nan::<E>(s.in_len());
            pool::max_pool_backward(c, s, &x, None, &dy, rectified, &mut dx);
            wide(&dx)
        };
        vec![wide(&y), gradient(false), gradient(true)]
    }

    fn want<E: Element>(s: &PoolShape) -> Vec<Want> {
        let (x, dy) = (wide(&map::<E>(s.in_len())), elements::<E>(s.out_len(), 4).1);
        let windows = windows(s, &x);
        let gradient = |rectified: bool| {
            let (mut dx, mut sizes) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            for ((value, at), &dy) in windows.iter().zip(&dy) {
                if let Some(at) = *at
                    && (*value > 0.0 || !rectified)
                {
                    dx[at] += f64::from(dy);
                    sizes[at] += f64::from(dy).abs();
                }
            }
            let bound = gamma(s.pool() * s.pool());
            Want::stored::<E>("gradient", dx, |i| bound * sizes[i])
        };
        let y = windows.iter().map(|(value, _)| *value).collect();
        vec![Want::exact("maxima", y), gradient(false), gradient(true)]
    }
}

/// Both over a map that is normalised on the way, which must have the bits of one after the other.
pub struct Normalised;

impl Kernel for Normalised {
    type Shape = PoolShape;

    fn edges() -> Vec<PoolShape> {
        shapes()
    }

    fn small() -> BoxedStrategy<PoolShape> {
        small()
    }

    fn run<E: Element>(c: &Compute, s: &PoolShape) -> Vec<Vec<f64>> {
        let (x, dy) = (elements::<E>(s.in_len(), 3).0, elements::<E>(s.out_len(), 4).0);
        let (n, scale, shift) = (s.channels(), noise(s.channels(), 5), noise(s.channels(), 6));
        let of = |relu: bool| {
            let normalize = Some(Normalize { scale: &scale, shift: &shift, relu });
            let mut map = nan::<E>(x.len());
            norm::batch_norm_apply(c, n, &x, &scale, &shift, None, relu, &mut map);
            let (mut got, mut want) = (nan::<E>(dy.len()), nan::<E>(dy.len()));
            pool::max_pool(c, s, &x, normalize, &mut got);
            pool::max_pool(c, s, &map, None, &mut want);
            assert!(got == want, "{s:?} relu {relu}: other bits than one after the other");
            let (mut dx, mut want) = (nan::<E>(x.len()), nan::<E>(x.len()));
            pool::max_pool_backward(c, s, &x, normalize, &dy, relu, &mut dx);
            pool::max_pool_backward(c, s, &map, None, &dy, false, &mut want);
            if relu {
                elementwise::relu_backward(c, &map, &mut want);
            }
            assert!(
                dx == want,
                "gradient of {s:?} relu {relu}: other bits than one after the other"
            );
            wide(&got)
        };
        vec![of(false), of(true)]
    }

    fn want<E: Element>(s: &PoolShape) -> Vec<Want> {
        let (x, n) = (elements::<E>(s.in_len(), 3).1, s.channels());
        let (scale, shift) = (noise(n, 5), noise(n, 6));
        let of = |relu: bool| {
            let floor = if relu { 0.0 } else { f64::NEG_INFINITY };
            let terms =
                |i: usize| [f64::from(x[i]) * f64::from(scale[i % n]), f64::from(shift[i % n])];
            let map: Vec<f64> =
                (0..x.len()).map(|i| terms(i).iter().sum::<f64>().max(floor)).collect();
            // A maximum is off by as much as the worst element of all.
            let error = |i: usize| gamma(2) * terms(i).iter().map(|t| t.abs()).sum::<f64>();
            let worst = (0..x.len()).map(error).fold(0.0, f64::max);
            Want::stored::<E>("maxima", maxima(s, &map), |_| worst)
        };
        vec![of(false), of(true)]
    }
}

/// `pool::global_average_pool` and `pool::global_average_pool_backward`.
pub struct Average;

impl Kernel for Average {
    /// Images, pixels and channels.
    type Shape = (usize, usize, usize);

    fn edges() -> Vec<Self::Shape> {
        vec![(3, 49, 70), (1, 1, 1), (2, 4096, 33)]
    }

    fn small() -> BoxedStrategy<Self::Shape> {
        (1..4usize, 1..50usize, 1..70usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &(batch, pixels, n): &Self::Shape) -> Vec<Vec<f64>> {
        let (x, dy) = (elements::<E>(batch * pixels * n, 5).0, noise(batch * n, 6));
        let (mut y, mut dx) = (nan::<f32>(batch * n), nan::<E>(x.len()));
        pool::global_average_pool(c, pixels, n, &x, &mut y);
        pool::global_average_pool_backward(c, pixels, n, &dy, &mut dx);
        vec![wide(&y), wide(&dx)]
    }

    fn want<E: Element>(&(batch, pixels, n): &Self::Shape) -> Vec<Want> {
        let (x, dy) = (elements::<E>(batch * pixels * n, 5).1, noise(batch * n, 6));
        let output = |i: usize| i / (pixels * n) * n + i % n;
        let (mut y, mut sizes) = (vec![0.0; batch * n], vec![0.0; batch * n]);
        for (i, &x) in x.iter().enumerate() {
            y[output(i)] += f64::from(x) / pixels as f64;
            sizes[output(i)] += f64::from(x).abs() / pixels as f64;
        }
        let dx: Vec<f64> = (0..x.len()).map(|i| f64::from(dy[output(i)]) / pixels as f64).collect();
        let exact = dx.clone();
        vec![
            Want::floats("averages", y, |i| gamma(pixels + 2) * sizes[i]),
            Want::stored::<E>("gradient", dx, |i| gamma(2) * exact[i].abs()),
        ]
    }
}
