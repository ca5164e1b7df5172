//! How processes of one machine find memory that they share: the first makes it, and the others open it by the number of its
//! process and of its file. No file system shows it, and it is gone with the last process, however that ends.

#[cfg(target_os = "linux")]
pub use linux::{accept, offer};

/// Whether processes of one machine share memory; `off` for messages alone.
pub const SHARED_MEMORY: &str = "HEADSTART_SHARED_MEMORY";

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::hash::{BuildHasher, RandomState};
    use std::os::fd::AsRawFd;

    use memmap2::{MmapOptions, MmapRaw};
    use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

    use super::SHARED_MEMORY;
    use crate::near::{MARK, Near, bytes};

    /// What a process tells the others of itself: text without a space where it has nothing to offer.
    #[derive(Debug)]
    pub struct Offer {
        /// For the others.
        pub text: String,
        /// The memory of the first process, which stays open until the others have it.
        file: Option<File>,
    }

    impl Offer {
        /// Of another process than the first.
        #[cfg(test)]
        pub fn without_memory() -> Offer {
            Offer { text: String::new(), file: None }
        }
    }

    /// Offers memory for `size` processes if this is the first one. Others say where they are.
    pub fn offer(rank: usize, size: usize) -> Offer {
        let choice = std::env::var(SHARED_MEMORY).unwrap_or_default().to_lowercase();
        let wanted = !["off", "0", "false", "no"].contains(&choice.trim());
        // Two hosts on one machine have two of these.
        let network = std::fs::read_link("/proc/self/ns/net").ok().filter(|_| wanted);
        let Some(network) = network else { return Offer { text: "off".into(), file: None } };
        let network = network.display().to_string();
        if rank != 0 {
            return Offer { text: network, file: None };
        }
        match made(size) {
            Some((file, mark)) => {
                let (process, number) = (std::process::id(), file.as_raw_fd());
                let text = format!("{network} /proc/{process}/fd/{number} {mark}");
                Offer { text, file: Some(file) }
            }
            None => Offer { text: "off".into(), file: None },
        }
    }

    /// Memory that no file system shows, with all its pages, and its mark.
    fn made(size: usize) -> Option<(File, String)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("headstart", flags).ok()?);
        // Where there is no memory left this fails, and not the first use of a page.
        let length = bytes(size) as u64;
        // A file above the limit (`ulimit -f`) would end the program.
        let most = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        if most.is_some_and(|most| most < length) {
            return None;
        }
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length).ok()?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).ok()?;
        let mark: String =
            (0..2).map(|i| format!("{:016x}", RandomState::new().hash_one(i))).collect();
        let bytes = &mark.as_bytes()[..MARK];
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).ok()?;
        Some((file, mark[..MARK].to_string()))
    }

    /// The memory that the first of `texts` offers, which are those of all processes in rank order; none if a process is elsewhere
    /// or wants none.
    pub fn accept(own: &Offer, texts: &[String], rank: usize) -> Option<Near> {
        let size = texts.len();
        let words: Vec<&str> = texts.first()?.split(' ').collect();
        let &[network, path, mark] = &words[..] else { return None };
        if texts[1..].iter().any(|text| text != network) {
            return None;
        }
        let memory = match &own.file {
            Some(file) => mapped(file, size, mark),
            None => mapped(&File::options().read(true).write(true).open(path).ok()?, size, mark),
        };
        Near::of(memory?, rank, size)
    }

    fn mapped(file: &File, size: usize, mark: &str) -> Option<MmapRaw> {
        let mut found = [0; MARK];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut found, 0).ok()?;
        let length = file.metadata().ok()?.len();
        if found != mark.as_bytes() || length != bytes(size) as u64 {
            return None;
        }
        MmapOptions::new().len(bytes(size)).map_raw(file).ok()
    }
}

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{accept, offer};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use crate::near::Near;

    /// As on Linux, with nothing to offer.
    #[derive(Debug)]
    pub struct Offer {
        /// For the others.
        pub text: String,
    }

    /// Nothing.
    pub fn offer(_rank: usize, _size: usize) -> Offer {
        Offer { text: "off".into() }
    }

    /// None.
    pub fn accept(_own: &Offer, _texts: &[String], _rank: usize) -> Option<Near> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::linux::Offer;
    use super::*;

    #[test]
    fn memory_that_is_not_the_offered_one_is_not_used() {
        let first = offer(0, 2);
        let words: Vec<&str> = first.text.split(' ').collect();
        let [network, path, mark] = words[..] else { panic!("{}", first.text) };
        let (other, whole) = (Offer::without_memory(), first.text.clone());
        let network = network.to_string();
        assert!(accept(&other, &[whole.clone(), network.clone()], 1).is_some());
        for texts in [
            // Elsewhere, nowhere, another size, another mark, no memory.
            vec![whole.clone(), "net:[1]".into()],
            vec![whole.clone(), "off".into()],
            vec![whole.clone(), network.clone(), network.clone()],
            vec![format!("{network} {path} {}", mark.replace(&mark[..1], "z")), network.clone()],
            vec![format!("{network} /proc/self/fd/0 {mark}"), network.clone()],
            vec!["off".into(), "off".into()],
            vec![network.clone(), network.clone()],
        ] {
            assert!(accept(&other, &texts, 1).is_none(), "{texts:?}");
        }
    }
}
