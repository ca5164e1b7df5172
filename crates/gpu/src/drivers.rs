//! What is wrong with the Vulkan drivers that a variable names: the loader then looks at no others, and says nothing.

use std::path::{Path, PathBuf};

/// Variables that name drivers, the one that counts first.
const VARIABLES: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
/// Bytes of a description that are read at most.
const MOST: u64 = 1 << 20;

/// The variable that names drivers, and what is wrong with each that cannot be one.
pub(crate) fn named() -> Option<(&'static str, Vec<String>)> {
    let set = |name: &'static str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some((name, std::env::split_paths(&value).filter_map(|path| wrong(&path)).collect()))
    };
    VARIABLES.into_iter().find_map(set)
}

/// Why this file describes no driver, if that can be seen.
fn wrong(path: &Path) -> Option<String> {
    let shown = path.display();
    let Ok(about) = std::fs::metadata(path) else {
        return Some(format!("{shown}, which is not there"));
    };
    if about.is_dir() {
        let files = std::fs::read_dir(path).into_iter().flatten().flatten();
        let any = files.map(|file| file.path()).any(|f| f.extension().is_some_and(|e| e == "json"));
        return (!any).then(|| format!("{shown}, a folder without drivers (*.json)"));
    }
    let no_driver = || Some(format!("{shown}, which describes no driver"));
    if !about.is_file() || about.len() > MOST {
        return no_driver();
    }
    let text = std::fs::read(path).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let Some(library) = json["ICD"]["library_path"].as_str() else { return no_driver() };
    // A name without a slash is looked for by the system; others begin in the file's folder.
    let place = path.parent().unwrap_or(Path::new("")).join(PathBuf::from(library));
    let gone = library.contains('/') && !place.exists();
    gone.then(|| format!("{shown}, whose library {library} is not there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_driver_is_named() {
        let root = std::env::temp_dir().join(format!("headstart-drivers-{}", std::process::id()));
        std::fs::create_dir_all(root.join("empty")).unwrap();
        let told = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::write(&path, text).unwrap();
            wrong(&path).unwrap_or_default()
        };
        assert!(wrong(&root.join("none")).unwrap().contains("is not there"));
        assert!(wrong(&root.join("empty")).unwrap().contains("without drivers"));
        for text in ["", "{ nothing", "[]", "{\"ICD\": {\"library_path\": 3}}"] {
            assert!(told("bad.json", text).contains("describes no driver"), "{text}");
        }
        let of = |library: &str| format!("{{\"ICD\": {{\"library_path\": \"{library}\"}}}}");
        assert!(told("a.json", &of("/no/such.so")).contains("/no/such.so is not there"));
        assert!(told("b.json", &of("./c.so")).contains("./c.so is not there"));
        std::fs::write(root.join("c.so"), "").unwrap();
        for library in ["./c.so", "libvulkan_lvp.so"] {
            assert_eq!(told("b.json", &of(library)), "");
        }
        assert_eq!(wrong(&root), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
