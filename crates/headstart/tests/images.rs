//! Decoding and resizing against Pillow's numbers (`golden/image/generate.py`).

use headstart::image::{Interpolation, Rgb8, decode, resize};
use serde_json::Value;

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
    assert!(cases.len() >= 49);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let image = decode(name, &unhex(&case["file"])).unwrap();
        assert_eq!((image.width, image.height), (number(&case["width"]), number(&case["height"])));
        let (max, mean) = difference(&image.pixels, &unhex(&case["rgb"]));
        println!("{name}: max {max}, mean {mean:.4}");
        let lossy = name.starts_with("jpeg") || name.starts_with("webp lossy");
        if !lossy {
            assert_eq!(max, 0, "{name}");
        } else {
            assert!(max <= 4 && mean <= 0.25, "{name}: max {max}, mean {mean}");
        }
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
fn damaged_bytes_never_panic() {
    let mut state = 12345u32;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    let mut refused = 0;
    let kinds = [
        "jpeg 4:2:0",
        "jpeg progressive",
        "jpeg cmyk",
        "jpeg restart",
        "jpeg orientation 6",
        "png rgb",
        "png palette",
        "webp lossless",
        "webp lossy",
        "webp animated",
        "webp orientation 6",
        "gif palette",
        "gif animated",
        "bmp rgb",
        "bmp palette",
    ];
    for kind in kinds {
        let good = sample(kind);
        for _ in 0..400 {
            let mut bad = good.clone();
            for _ in 0..1 + random(6) {
                let at = random(bad.len());
                bad[at] = random(256) as u8;
            }
            bad.truncate(bad.len() - random(bad.len()) / 4);
            if let Err(error) = decode("x", &bad) {
                // The words for a decoder panic that was caught.
                assert!(!error.to_string().contains("cannot handle"), "{kind}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn files_cut_short_anywhere_never_panic_and_tell_their_name() {
    let doc = golden("images.json");
    for case in doc["images"].as_array().unwrap() {
        let good = unhex(&case["file"]);
        for length in (0..good.len()).step_by(1 + good.len() / 200) {
            if let Err(error) = decode("cut.img", &good[..length]) {
                let text = error.to_string();
                assert!(text.contains("cut.img") && !text.contains("cannot handle"), "{text}");
            }
        }
    }
}
