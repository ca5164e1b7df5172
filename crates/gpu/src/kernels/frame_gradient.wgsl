// The gradient of upsampling and of the zeros around: an input pixel is seen factor x factor times.

struct Params {
    len: u32, stride: u32, channels: u32, factor: u32,
    height: u32, width: u32, padding: u32, out_height: u32,
    out_width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dy: array<{x}>;
@group(0) @binding(2) var<storage, read_write> dx: array<{x}>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = (group.y * 32768u + group.x) * 256u + thread; i < p.len; i += p.stride) {
        let channel = i % p.channels;
        let at = i / p.channels;
        let column = at % p.width * p.factor + p.padding;
        let line = at / p.width % p.height * p.factor + p.padding;
        let image = at / p.width / p.height;
        var sum = 0.0;
        for (var r = 0u; r < p.factor; r++) {
            for (var c = 0u; c < p.factor; c++) {
                let pixel = (image * p.out_height + line + r) * p.out_width + column + c;
                sum += {wide_x}(dy[pixel * p.channels + channel]);
            }
        }
        dx[i] = {near_x}(sum);
    }
}
