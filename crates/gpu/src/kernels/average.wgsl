// The mean over the pixels of an image.

struct Params { len: u32, stride: u32, channels: u32, pixels: u32, share: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let first = i / p.channels * p.channels * p.pixels + i % p.channels;
        var sum = 0.0;
        for (var pixel = 0u; pixel < p.pixels; pixel++) {
            sum += {wide_x}(x[first + pixel * p.channels]);
        }
        y[i] = sum * p.share;
    }
}
