// Pixels to what the net computes with: a channel map, upsampling by the nearest pixel, and zeros around.
//
// Settings: BYTES: pixels are bytes, four to a word; MAP: channel k is input[source[k]] * scale[k] + offset[k].

struct Params {
    len: u32, stride: u32, channels: u32, factor: u32,
    height: u32, width: u32, padding: u32, out_height: u32,
    out_width: u32, source_0: u32, source_1: u32, source_2: u32,
    scale_0: f32, scale_1: f32, scale_2: f32, offset_0: f32,
    offset_1: f32, offset_2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
//! if BYTES
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
//! else
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
//! end
@group(0) @binding(2) var<storage, read_write> y: array<{y}>;

fn pixel(at: u32) -> f32 {
//! if BYTES
    return f32((x[at / 4u] >> (8u * (at % 4u))) & 255u);
//! else
    return {wide_x}(x[at]);
//! end
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let channel = i % p.channels;
        let at = i / p.channels;
        let column = at % p.out_width;
        let line = at / p.out_width % p.out_height;
        let image = at / p.out_width / p.out_height;
        let from_x = (column - p.padding) / p.factor;
        let from_y = (line - p.padding) / p.factor;
        var v = 0.0;
        if (column >= p.padding && line >= p.padding && from_x < p.width && from_y < p.height) {
            let origin = ((image * p.height + from_y) * p.width + from_x) * p.channels;
//! if MAP
            let source = select(select(p.source_2, p.source_1, channel == 1u), p.source_0, channel == 0u);
            let scale = select(select(p.scale_2, p.scale_1, channel == 1u), p.scale_0, channel == 0u);
            let offset = select(select(p.offset_2, p.offset_1, channel == 1u), p.offset_0, channel == 0u);
            v = pixel(origin + source) * scale + offset;
//! else
            v = pixel(origin + channel);
//! end
        }
        y[i] = {near_y}(v);
    }
}
