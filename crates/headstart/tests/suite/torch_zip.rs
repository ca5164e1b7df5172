//! Archives as PyTorch writes them (miniz, with ZIP64's records, data descriptors and padding to 64 bytes), whatever the
//! length of the name that the file was saved under.

use std::fs;

use headstart::weights::read;

/// CRC-32, bit by bit (ITU-T V.42).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    })
}

/// The pickle of a state dict with one tensor of 2 x 2.
fn pickle() -> Vec<u8> {
    let text = |s: &str| [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
    let mut bytes = b"\x80\x02}(".to_vec();
    bytes.extend(text("conv1.weight"));
    bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    bytes.extend(text("storage"));
    bytes.extend(b"ctorch\nFloatStorage\n");
    bytes.extend([text("0"), text("cpu")].concat());
    bytes.extend(b"K\x04tQK\x00(K\x02K\x02t(K\x02K\x01t\x89ccollections\nOrderedDict\n)RtRu.");
    bytes
}

/// `torch.save` under `name`, with or without the newer entries.
fn archive(name: &str, newer: bool) -> Vec<u8> {
    let floats: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut entries = vec![("data.pkl", pickle())];
    if newer {
        entries.push((".format_version", b"1".to_vec()));
        entries.push((".storage_alignment", b"64".to_vec()));
    }
    entries.push(("byteorder", b"little".to_vec()));
    entries.push(("data/0", floats));
    entries.push(("version", b"3\n".to_vec()));
    entries.push((".data/serialization_id", b"1234567890123456789012345678901234567890".to_vec()));
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for (entry, data) in &entries {
        let path = format!("{name}/{entry}");
        let offset = out.len() as u32;
        let before = out.len() + 30 + path.len() + 4;
        let padding = before.next_multiple_of(64) - before;
        let (crc, size) = (crc32(data).to_le_bytes(), (data.len() as u32).to_le_bytes());
        out.extend(b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0");
        out.extend([0; 12]);
        out.extend((path.len() as u16).to_le_bytes());
        out.extend((4 + padding as u16).to_le_bytes());
        out.extend(path.as_bytes());
        out.extend(b"FB");
        out.extend((padding as u16).to_le_bytes());
        out.extend(vec![b'Z'; padding]);
        out.extend(data);
        out.extend([&b"PK\x07\x08"[..], &crc, &size, &size].concat());
        list.extend(b"PK\x01\x02\0\0\0\0\x08\x08\0\0\0\0\0\0");
        list.extend([crc, size, size].concat());
        list.extend((path.len() as u16).to_le_bytes());
        list.extend([0; 12]);
        list.extend(offset.to_le_bytes());
        list.extend(path.as_bytes());
    }
    let (count, size, start) = (entries.len() as u64, list.len() as u64, out.len() as u64);
    out.extend(list);
    let record = out.len() as u64;
    out.extend(b"PK\x06\x06");
    out.extend(44u64.to_le_bytes());
    out.extend(b"\x1e\x03\x2d\0\0\0\0\0\0\0\0\0");
    out.extend([count, count, size, start].map(u64::to_le_bytes).concat());
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(record.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count as u16, count as u16].map(u16::to_le_bytes).concat());
    out.extend([size as u32, start as u32].map(u32::to_le_bytes).concat());
    out.extend([0, 0]);
    out
}

#[test]
fn a_name_of_any_length_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    for length in 1..=130 {
        for newer in [false, true] {
            fs::write(&path, archive(&"n".repeat(length), newer)).unwrap();
            let file = read(&path).unwrap_or_else(|e| panic!("{length} {newer}: {e}"));
            let [only] = &file.tensors[..] else { panic!("{length}: {:?}", file.tensors) };
            assert_eq!((only.name.as_str(), &only.shape[..]), ("conv1/kernel", &[2, 2][..]));
            assert_eq!(only.values, [1.0, 3.0, 2.0, 4.0], "{length}");
        }
    }
    // What is cut off stays an error.
    let whole = archive("model", true);
    fs::write(&path, &whole[..whole.len() - 30]).unwrap();
    assert!(read(&path).is_err());
}

#[test]
fn a_file_that_is_cut_short_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    let whole = archive("net", true);
    for part in [2, 10] {
        let cut = &whole[..whole.len() - whole.len() / part];
        fs::write(&path, cut).unwrap();
        let error = read(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("{} bytes of one, without its end", cut.len())), "{text}");
        assert!(error.hint().unwrap().contains("cut short"), "{error:?}");
    }
    // As PyTorch saved before 1.6: a pickle, then the numbers.
    fs::write(&path, &pickle()[..40]).unwrap();
    let error = read(&path).unwrap_err();
    assert!(error.hint().unwrap().contains("if it is cut short"), "{error:?}");
}
