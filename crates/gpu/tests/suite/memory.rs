//! Memory over several buffers, uploads and downloads.

use headstart_gpu::kernels::elementwise::fill;
use headstart_gpu::{Choice, Context, Places, Space};

use crate::support::{contexts, noise, read, room, run};

#[test]
fn tensors_lie_over_several_buffers() {
    for i in 0..contexts().len() {
        let c = &Context::open(Choice::Number(i)).unwrap().with_page(4096);
        let mut places = Places::new(c.page());
        let lengths = [700usize, 300, 1000, 5];
        let at = lengths.map(|len| places.place(4 * len as u64).unwrap());
        let space = Space::new(c, places.end()).unwrap();
        assert!(space.spans().len() > 1);
        let spans: Vec<_> =
            (0..4).map(|i| space.span(at[i], 4 * lengths[i] as u64).unwrap()).collect();
        let values: Vec<Vec<f32>> = (0..4).map(|i| noise(lengths[i], i as u64)).collect();
        for (span, values) in spans.iter().zip(&values) {
            c.write_floats(span, values).unwrap();
        }
        let mut words = Vec::new();
        let wanted: Vec<_> = spans.iter().cloned().zip(lengths).collect();
        c.read(&wanted, &mut words).unwrap();
        let floats: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        assert!(floats == values.concat());
        // A tensor over the end of a buffer is none.
        assert!(space.span(4096 - 256, 512).is_err() && places.place(8192).is_err());
    }
}

#[test]
fn odd_bytes_and_large_grids_arrive() {
    for c in contexts() {
        let span = room(c, 4);
        c.write(&span, &[1, 2, 3, 4, 5]).unwrap();
        let mut words = Vec::new();
        c.read(&[(span.clone(), 2)], &mut words).unwrap();
        assert_eq!(words, [0x0403_0201, 5]);
        assert!(c.write(&span, &[0; 1 << 10]).is_err());
        // More elements than threads.
        let len = 3 << 20;
        let many = room(c, len);
        run(c, &[fill(len, 1.5f32.to_bits(), &many)]);
        assert!(read(c, &many, len).iter().all(|&v| v == 1.5));
    }
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    if contexts().is_empty() {
        return;
    }
    let error = Context::open(Choice::Number(99)).unwrap_err().to_string();
    assert!(error.contains("gpu:99") && error.contains(&contexts()[0].adapter().name), "{error}");
}
