//! Listing an image folder on disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::Skipped;
use super::tree::{File, MAX_DEPTH, Origin, Tree, has_image_extension, is_hidden};
use crate::error::{Error, Result};

/// Every file and folder under `root` that is not hidden. Symbolic links are followed, except
/// to a folder that contains the link.
pub(crate) fn list(root: &Path) -> Result<Tree> {
    let mut tree = Tree { root: root.to_path_buf(), ..Tree::default() };
    let real = fs::canonicalize(root).map_err(Error::io("open folder", root))?;
    walk(root, &mut vec![real], &mut Vec::new(), &mut tree)?;
    Ok(tree)
}

/// `above` holds the real paths of the folders from the root to this one.
fn walk(
    folder: &Path,
    above: &mut Vec<PathBuf>,
    names: &mut Vec<String>,
    tree: &mut Tree,
) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list folder", folder))? {
        let entry = entry.map_err(Error::io("list folder", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_hidden(&name) {
            continue;
        }
        let path = entry.path();
        names.push(name);
        // `metadata` follows links; a link to nothing, or in a circle of links, fails here.
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                let real = fs::canonicalize(&path).map_err(Error::io("open folder", &path))?;
                if above.contains(&real) || names.len() > MAX_DEPTH {
                    let reason = if names.len() > MAX_DEPTH {
                        format!("nested more than {MAX_DEPTH} folders deep")
                    } else {
                        "a link to a folder that contains it".to_string()
                    };
                    tree.skipped.push(Skipped { name: names.join("/"), reason });
                } else {
                    tree.folders.push(names.clone());
                    above.push(real);
                    walk(&path, above, names, tree)?;
                    above.pop();
                }
            }
            Ok(meta) if meta.is_file() => {
                tree.files.push(File { path: names.clone(), origin: Origin::Disk(path) });
            }
            Ok(_) => {}
            Err(error) => {
                if names.last().is_some_and(|name| has_image_extension(name)) {
                    let reason = format!("a file that cannot be read ({error})");
                    tree.skipped.push(Skipped { name: names.join("/"), reason });
                }
            }
        }
        names.pop();
    }
    Ok(())
}
