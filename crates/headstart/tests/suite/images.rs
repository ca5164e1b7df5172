//! Decoding and resizing against Pillow's numbers (`golden/image/generate.py`).

use headstart::image::{Fit, Interpolation, Resizer, Rgb8, Target, decode, resize};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/golden/image/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// Largest and mean absolute difference in counts of 255.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let max = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    (max, sum as f64 / a.len() as f64)
}

#[test]
fn decoded_images_match_pillow() {
    let doc = golden("images.json");
    let cases = doc["images"].as_array().unwrap();
    assert!(cases.len() >= 52);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let image = decode(name, &unhex(&case["file"])).unwrap();
        assert_eq!((image.width, image.height), (number(&case["width"]), number(&case["height"])));
        let (max, mean) = difference(&image.pixels, &unhex(&case["rgb"]));
        println!("{name}: max {max}, mean {mean:.4}");
        if !name.starts_with("webp lossy") {
            assert_eq!(max, 0, "{name}");
        } else {
            assert!(max <= 4 && mean <= 0.25, "{name}: max {max}, mean {mean}");
        }
    }
}

/// Pillow scales colours of 16 bits in PNM to 8 and rounds, keeps the high byte in PNG, and clips grey of 16 bits at 255.
#[test]
fn samples_of_16_bits_become_8() {
    let samples = [0u16, 127, 128, 255, 256, 0x8000, 0xfeff, 0xffff];
    let bytes: Vec<u8> = samples.iter().flat_map(|v| v.to_be_bytes()).collect();
    let rounded = samples.map(|v| ((u32::from(v) * 255 + 32767) / 65535) as u8);
    let grey = decode("x.pgm", &[&b"P5 8 1 65535\n"[..], &bytes].concat()).unwrap();
    assert_eq!(grey.pixels.iter().step_by(3).copied().collect::<Vec<u8>>(), rounded);
    let rgb: Vec<u8> = samples.iter().flat_map(|v| [v.to_be_bytes(); 3]).flatten().collect();
    let colours = decode("x.ppm", &[&b"P6 8 1 65535\n"[..], &rgb].concat()).unwrap();
    assert_eq!(colours.pixels, grey.pixels);
    for (kind, colour) in [(png::ColorType::Grayscale, &bytes), (png::ColorType::Rgb, &rgb)] {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 8, 1);
        encoder.set_color(kind);
        encoder.set_depth(png::BitDepth::Sixteen);
        encoder.write_header().unwrap().write_image_data(colour).unwrap();
        let image = decode("x.png", &file).unwrap();
        let high = samples.map(|v| (v >> 8) as u8);
        assert_eq!(image.pixels.iter().step_by(3).copied().collect::<Vec<u8>>(), high, "{kind:?}");
    }
}

#[test]
fn resized_images_match_pillow() {
    let doc = golden("resize.json");
    let source =
        Rgb8::new(number(&doc["width"]), number(&doc["height"]), unhex(&doc["rgb"])).unwrap();
    let cases = doc["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 18);
    for case in cases {
        let interpolation: Interpolation = case["interpolation"].as_str().unwrap().parse().unwrap();
        let (width, height) = (number(&case["width"]), number(&case["height"]));
        let out = resize(&source, width, height, interpolation).unwrap();
        let (max, mean) = difference(&out.pixels, &unhex(&case["rgb"]));
        println!("{} {width}x{height}: max {max}, mean {mean:.4}", interpolation.name());
        assert_eq!(max, 0);
    }
}

/// The first image of the golden set whose name starts so.
fn sample(prefix: &str) -> Vec<u8> {
    let doc = golden("images.json");
    let cases = doc["images"].as_array().unwrap();
    unhex(&cases.iter().find(|c| c["name"].as_str().unwrap().starts_with(prefix)).unwrap()["file"])
}

#[test]
fn broken_images_are_refused_with_a_reason() {
    let reason = |bytes: &[u8]| decode("x.jpg", bytes).unwrap_err().to_string();
    let (jpeg, png) = (sample("jpeg 4:2:0"), sample("png rgb"));
    for (bytes, part) in [
        (&b""[..], "empty"),
        (b"hello world", "68 65 6c 6c"),
        (b"GIF89a", "ends"),
        (b"GIF89a\x01\0\x01\0......", "GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "ends"),
        (b"RIFF\0\0\0\0WEBPALPH\0\0\0\0....", "without a picture"),
        (b"BM..............\x07\0\0\0............", "BMP with a header of"),
        (b"II*\0............", "TIFF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (&jpeg[..20], "ends"),
        (&png[..20], "ends"),
        (&jpeg[..jpeg.len() / 2], "too early"),
        (&png[..png.len() / 2], "PNG"),
    ] {
        let text = reason(bytes);
        assert!(text.contains(part) && text.contains("x.jpg"), "{text}");
    }
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    assert!(reason(&huge).contains("65536x65536"), "{}", reason(&huge));
    // Every encoding with a header that promises a hundred thousand pixels a side or more.
    let mut giants =
        [png.clone(), sample("bmp rgb"), sample("gif palette"), sample("webp orientation")];
    giants[0][16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    giants[1][18..26].copy_from_slice(&[0xa0, 0x86, 1, 0, 0xa0, 0x86, 1, 0]);
    giants[2][6..10].fill(0xff);
    giants[3][24..30].fill(0xff);
    for (giant, size) in
        giants.iter().zip(["100000x100000", "100000x100000", "65535x65535", "16777216x"])
    {
        let text = reason(giant);
        assert!(text.contains(size) && text.contains("the limit is 100 million"), "{text}");
    }
    let mut flat = png.clone();
    flat[16..20].copy_from_slice(&[0; 4]);
    assert!(reason(&flat).contains("0x7"), "{}", reason(&flat));
    let mut flipped = png;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    assert!(reason(&flipped).contains("corrupt PNG"), "{}", reason(&flipped));
}

#[test]
fn a_png_that_lacks_its_end_chunk_alone_is_whole() {
    let png = sample("png rgb");
    let whole = decode("x.png", &png).unwrap();
    for missing in [4, 12] {
        let cut = decode("x.png", &png[..png.len() - missing]).unwrap();
        assert!(cut.pixels == whole.pixels, "{missing}");
    }
    // Without the end of its pixels it is cut short.
    assert!(decode("x.png", &png[..png.len() - 24]).is_err());
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let reason = |bytes: &[u8]| decode("x", bytes).unwrap_err().to_string();
    // The place of width and height in each header.
    for (kind, width, height) in [
        ("jpeg grey", 0..0, 0..0),
        ("png rgb", 16..20, 20..24),
        ("gif palette", 0..0, 0..0),
        ("bmp rgb", 18..22, 22..26),
    ] {
        let good = sample(kind);
        let frame = good.windows(2).position(|w| w == [0xff, 0xc0]).unwrap_or(0);
        let places = match kind {
            "jpeg grey" => [frame + 7..frame + 9, frame + 5..frame + 7],
            // The screen may have none.
            "gif palette" => [5, 7].map(|side| frame_of(&good) + side).map(|at| at..at + 2),
            _ => [width, height],
        };
        for place in places {
            let mut bad = good.clone();
            bad[place].fill(0);
            let text = reason(&bad);
            assert!(text.contains("0x") || text.contains("x0 pixels"), "{kind}: {text}");
        }
    }
    let bmp = sample("bmp rgb");
    for (place, number) in [(18, -9), (18, i32::MIN), (22, i32::MIN), (22, i32::MAX)] {
        let mut bad = bmp.clone();
        bad[place..place + 4].copy_from_slice(&i32::to_le_bytes(number));
        assert!(reason(&bad).contains("BMP of"), "{}", reason(&bad));
    }
    // Pixels that begin far behind the end.
    let mut bad = bmp;
    bad[10..14].fill(0x7f);
    assert!(reason(&bad).contains("BMP"), "{}", reason(&bad));
    // A PNG that says it has far more rows than it has: the memory is that of the picture it claims, no more.
    let mut bad = sample("png rgb");
    bad[20..24].copy_from_slice(&[0, 0x80, 0, 0]);
    assert!(reason(&bad).contains("PNG"), "{}", reason(&bad));
}

#[test]
fn a_gif_frame_outside_its_canvas_does_no_harm() {
    let good = sample("gif palette");
    let at = frame_of(&good);
    for (left, top, width, height) in [(100, 100, 9, 7), (65535, 0, 9, 7), (0, 0, 65535, 65535)] {
        let mut bad = good.clone();
        for (i, number) in [left, top, width, height].into_iter().enumerate() {
            bad[at + 1 + 2 * i..][..2].copy_from_slice(&u16::to_le_bytes(number));
        }
        match decode("x.gif", &bad) {
            // The canvas grows, as with Pillow.
            Ok(image) => assert_eq!((image.width, image.height, left), (109, 107, 100)),
            Err(error) => assert!(error.to_string().contains("a GIF of 65"), "{error}"),
        }
    }
}

/// Where the image descriptor of a GIF with a global palette is.
fn frame_of(gif: &[u8]) -> usize {
    let palette = 3 * (2 << (gif[10] & 7));
    13 + palette + gif[13 + palette..].iter().position(|&b| b == b',').unwrap()
}

/// Fails on the words for a decoder panic that was caught; the size of what decodes is right.
fn holds_together(name: &str, bytes: &[u8]) {
    match decode(name, bytes) {
        Ok(image) => assert_eq!(image.pixels.len(), image.width * image.height * 3),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(name) && !text.contains("cannot handle"), "{text}");
        }
    }
}

/// Every golden file that stays small when its header is changed at random.
fn samples() -> Vec<(String, Vec<u8>)> {
    let doc = golden("images.json");
    let cases = doc["images"].as_array().unwrap().iter();
    cases.map(|c| (c["name"].as_str().unwrap().to_string(), unhex(&c["file"]))).collect()
}

#[test]
fn damaged_bytes_never_panic() {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use proptest::test_runner::{Config, TestRunner};
    let files = samples();
    let change = (any::<Index>(), any::<u8>());
    let strategy = (any::<Index>(), prop::collection::vec(change, 1..6), any::<Index>());
    let config = Config { failure_persistence: None, ..Config::with_cases(4000) };
    TestRunner::new(config)
        .run(&strategy, |(file, changes, cut)| {
            let (name, good) = &files[file.index(files.len())];
            let mut bad = good.clone();
            for (at, byte) in changes {
                // Sizes stay: a picture of the greatest size allowed takes seconds.
                let place = at.index(bad.len());
                if place >= 32 {
                    bad[place] = byte;
                }
            }
            bad.truncate(bad.len() - cut.index(bad.len()) / 8);
            holds_together(name, &bad);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_bytes_behind_a_magic_never_panic() {
    use proptest::prelude::*;
    let magics: [&[u8]; 6] = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x09\0\0\0\x07",
        b"RIFF\0\x01\0\0WEBPVP8L\x40\0\0\0\x2f\x08\x80\x01\0",
        b"GIF89a\x09\0\x07\0",
        b"BM\xff\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x09\0\0\0\x07\0\0\0",
        b"",
    ];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) };
    proptest!(config, |(kind in 0..magics.len(), rest in prop::collection::vec(any::<u8>(), 0..200))| {
        holds_together("x.img", &[magics[kind], &rest].concat());
    });
}

#[test]
fn files_cut_short_anywhere_never_panic_and_tell_their_name() {
    for (name, good) in samples() {
        for length in 0..good.len() {
            holds_together(&name, &good[..length]);
        }
    }
}

#[test]
fn orientations_turn_one_photo_into_one_picture() {
    // Eight files hold the same stored pixels; turned, each is a rotation or mirror image of the first.
    let all: Vec<_> =
        (1..=8).map(|i| decode("x", &sample(&format!("jpeg orientation {i}"))).unwrap()).collect();
    for (i, image) in all.iter().enumerate() {
        let turned = i >= 4;
        let size = (image.width, image.height);
        assert_eq!(size == (all[0].height, all[0].width), turned, "orientation {}", i + 1);
        assert!(all[..i].iter().all(|other| other.pixels != image.pixels));
    }
}

#[test]
fn images_are_cropped_and_padded_as_by_torchvision_and_pillow() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/fit/fit.json");
    let doc: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = doc["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 504);
    let mut resizer = Resizer::new();
    for case in cases {
        let (width, height) = (number(&case["width"]), number(&case["height"]));
        let byte = |i: usize| ((i * i / 7 + 37 * i) % 251) as u8;
        let pixels: Vec<u8> = (0..width * height * 3).map(byte).collect();
        let image = Rgb8::new(width, height, pixels).unwrap();
        let fit = match case["fit"].as_str().unwrap() {
            "crop" => Fit::Crop { share: case["share"].as_f64().unwrap() },
            _ => Fit::Pad,
        };
        let interpolation = case["interpolation"].as_str().unwrap().parse().unwrap();
        let target = Target { fit, interpolation, ..Target::square(number(&case["side"])) };
        let out = target.enter(&mut resizer, &image).unwrap();
        let hash: String = Sha256::digest(&out).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, case["sha256"].as_str().unwrap(), "{case}");
    }
}
