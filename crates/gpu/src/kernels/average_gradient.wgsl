// The gradient of the mean over the pixels of an image.

struct Params { len: u32, stride: u32, channels: u32, pixels: u32, share: f32 }

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<{x}>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let image = i / p.channels / p.pixels;
        dx[i] = {near_x}(dy[image * p.channels + i % p.channels] * p.share);
    }
}
