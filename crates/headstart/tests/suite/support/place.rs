//! A hub with an empty cache, and one file to fetch.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use headstart::Error;
use headstart::hub::{Algorithm, Asset, Content, Digest, Hub};
use headstart::inference::Control;
use sha2::{Digest as _, Sha256};

use super::server::{Request, Server};
/// A file of 300,007 bytes, a cache, and a hub that loses patience soon.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub file: Vec<u8>,
    pub asset: Asset,
    pub hub: Hub,
}

pub fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let file: Vec<u8> =
        (0..300_007u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let hash: String = Sha256::digest(&file).iter().map(|b| format!("{b:02x}")).collect();
    let asset = Asset {
        file: "net.bin".into(),
        url: "http://127.0.0.1:9/net.bin".into(),
        digest: Digest::new(Algorithm::Sha256, hash),
        size: 300_000,
        content: Content::Data("net".into()),
    };
    let mut hub = Hub::new(folder.path().join("cache"));
    hub.timeout = Duration::from_millis(400);
    hub.pause = Duration::from_millis(1);
    hub.attempts = 3;
    Place { folder, file, asset, hub }
}

impl Place {
    /// Serves `answer`, given the file, under the mirror's address.
    pub fn serve(
        &mut self,
        answer: impl Fn(&Request, &mut dyn Write, &[u8]) + Send + Sync + 'static,
    ) -> Server {
        let file = self.file.clone();
        let server = Server::start(move |request, out| answer(request, out, &file));
        self.hub.mirror = Some(server.url.clone());
        server
    }

    pub fn fetch(&self) -> Result<PathBuf, Error> {
        self.hub.fetch(&self.asset, &mut |_| Control::Continue)
    }

    /// Fails unless the file has come whole and nothing else is beside it.
    #[track_caller]
    pub fn arrives(&self) {
        let path = self.fetch().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(path, self.hub.path(&self.asset));
        assert!(fs::read(path).unwrap() == self.file);
        assert_eq!(self.kept(), ["net.bin"]);
    }

    /// Fails unless the download does, for `reason`, with a hint that says how to go on, and leaves `kept`.
    #[track_caller]
    pub fn fails(&self, reason: &str, kept: &[&str]) -> Error {
        let error = self.fetch().unwrap_err();
        let Error::Download { file, url, hint, .. } = &error else { panic!("{error}") };
        assert_eq!((file, url), (&"net.bin".to_string(), &self.hub.url(&self.asset)));
        assert!(error.to_string().contains(reason), "no {reason:?} in: {error}");
        assert!(!hint.is_empty());
        assert_eq!(self.kept(), kept);
        error
    }

    /// Files in the cache, but for locks.
    pub fn kept(&self) -> Vec<String> {
        let folder = self.hub.path(&self.asset).parent().unwrap().to_path_buf();
        let mut names: Vec<String> = fs::read_dir(folder)
            .map(|entries| entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.retain(|name| name != ".locks");
        names.sort();
        names
    }

    pub fn part(&self) -> PathBuf {
        self.hub.path(&self.asset).with_file_name("net.bin.part")
    }

    pub fn put_part(&self, bytes: &[u8]) {
        fs::create_dir_all(self.part().parent().unwrap()).unwrap();
        fs::write(self.part(), bytes).unwrap();
    }
}
