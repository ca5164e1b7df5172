// The maximum over windows; zeros around the input take part in it.
//
// Settings: NORMALIZE: of x * scale + shift; RELU: of max(that, 0).

struct Params {
    len: u32, stride: u32, channels: u32, height: u32,
    width: u32, out_height: u32, out_width: u32, pool: u32,
    step: u32, padding: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<{x}>;
@group(0) @binding(2) var<storage, read_write> y: array<{x}>;
//! if NORMALIZE
// The batch norm's; scale and shift are its third and fourth row.
@group(0) @binding(3) var<storage, read_write> state: array<f32>;
//! end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let channel = i % p.channels;
        let at = i / p.channels;
        let column = at % p.out_width * p.step;
        let line = at / p.out_width % p.out_height * p.step;
        let image = at / p.out_width / p.out_height;
//! if NORMALIZE
        let a = state[2u * p.channels + channel];
        let b = state[3u * p.channels + channel];
//! end
        var best = 0.0;
        for (var r = 0u; r < p.pool; r++) {
            for (var c = 0u; c < p.pool; c++) {
                // Above the padding these wrap around and are outside.
                let from_y = line + r - p.padding;
                let from_x = column + c - p.padding;
                var v = 0.0;
                if (from_y < p.height && from_x < p.width) {
                    v = {wide_x}(x[((image * p.height + from_y) * p.width + from_x) * p.channels + channel]);
//! if NORMALIZE
                    v = v * a + b;
//! end
//! if RELU
                    v = select(v, 0.0, v < 0.0);
//! end
                }
                // NaN goes through.
                if ((r == 0u && c == 0u) || v > best || v != v) {
                    best = v;
                }
            }
        }
        y[i] = {near_x}(best);
    }
}
