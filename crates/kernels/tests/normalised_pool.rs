//! Max pooling of a map that is normalised on the way, against normalising and pooling one after the other.

use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::elementwise;
use headstart_kernels::norm;
use headstart_kernels::pool::{self, Normalize, PoolShape, PoolSizes};
use headstart_kernels::table::Compute;

mod support;
use support::{each_compute, elements, noise};

fn normalised<E: Element>(c: &Compute) {
    for (height, width, channels, size, stride, padding) in
        [(7, 6, 5, 3, 2, 0), (19, 9, 64, 3, 2, 1), (5, 5, 1, 2, 2, 0), (6, 4, 17, 3, 1, 1)]
    {
        let sizes = PoolSizes { batch: 2, height, width, channels, pool: size, stride, padding };
        let s = PoolShape::new(sizes).unwrap();
        let (x, dy) = (elements::<E>(s.in_len(), 3).0, elements::<E>(s.out_len(), 4).0);
        let (scale, shift) = (noise(channels, 5), noise(channels, 6));
        for relu in [true, false] {
            let normalize = Some(Normalize { scale: &scale, shift: &shift, relu });
            let mut map = vec![E::default(); x.len()];
            norm::batch_norm_apply(c, channels, &x, &scale, &shift, None, relu, &mut map);
            let (mut got, mut want) = (vec![E::default(); dy.len()], vec![E::default(); dy.len()]);
            pool::max_pool(c, &s, &x, normalize, &mut got);
            pool::max_pool(c, &s, &map, None, &mut want);
            assert!(got == want, "{s:?} relu {relu}");
            let nan = || vec![E::from_f32(f32::NAN); x.len()];
            let (mut got, mut want) = (nan(), nan());
            pool::max_pool_backward(c, &s, &x, normalize, &dy, relu, &mut got);
            pool::max_pool_backward(c, &s, &map, None, &dy, false, &mut want);
            if relu {
                elementwise::relu_backward(c, &map, &mut want);
            }
            assert!(got == want, "gradient {s:?} relu {relu}");
        }
    }
}

#[test]
fn pooling_of_a_map_normalised_on_the_way_is_normalising_and_pooling() {
    each_compute(normalised::<f32>);
    each_compute(normalised::<Bf16>);
}
