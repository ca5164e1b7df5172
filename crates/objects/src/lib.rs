//! Images in buckets and on web servers, for headstart: S3 and what speaks its protocol, Google Cloud Storage, Azure's Blob
//! Storage, WebDAV and plain files over https.
//!
//! ```no_run
//! headstart::hub::objects::register(Box::new(headstart_objects::Buckets::new()));
//! let data = headstart::Model::open("photos.safetensors")?.open_data("s3://bucket/photos")?;
//! # Ok::<(), headstart::Error>(())
//! ```
//!
//! The protocols are object_store's. Cryptography is Graviola's, for connections and for signatures, so that no C is compiled.
//! Credentials, regions and endpoints are read from the environment: `AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`,
//! `AZURE_STORAGE_ACCOUNT_NAME` and their like.
#![forbid(unsafe_code)]

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the cryptography of headstart-objects is for x86-64 and 64-bit Arm only");

mod address;
mod crypto;
mod drive;
mod explain;
mod fetch;
mod listing;
mod store;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use headstart::hub::objects::{Listing, Lost, Objects, Wanted};
use headstart::hub::{Event, Hub, Watch};
use headstart::{Error, Result};
use tokio::runtime::Runtime;

use address::Address;
use drive::drive;
use store::Store;

/// Lists and fetches objects. Connections are kept and used again.
#[derive(Debug, Default)]
pub struct Buckets {
    runtime: OnceLock<Runtime>,
    stores: Mutex<HashMap<String, Arc<Store>>>,
}

impl Buckets {
    /// Opens nothing yet.
    pub fn new() -> Buckets {
        Buckets::default()
    }

    fn runtime(&self) -> Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(|e| Error::threads(2, e))?;
        Ok(self.runtime.get_or_init(|| made))
    }

    fn store(&self, address: &Address) -> Result<Arc<Store>> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(&address.root) {
            return Ok(Arc::clone(store));
        }
        let variables = store::variables();
        let store = Arc::new(Store::open(address, &variables, &Hub::from_env()?)?);
        stores.insert(address.root.clone(), Arc::clone(&store));
        Ok(store)
    }
}

impl Objects for Buckets {
    fn list(&self, url: &str, watch: &mut Watch<'_>) -> Result<Listing> {
        let address = Address::parse(url)?;
        let (store, count) = (self.store(&address)?, AtomicU64::new(0));
        let listing = listing::list(&store, &address, &count);
        let mut tell = || watch(&Event::Listing { url, count: count.load(Ordering::Relaxed) });
        drive(self.runtime()?, listing, &mut tell)?
    }

    fn server(&self, url: &str) -> Result<String> {
        Ok(store::server(&Address::parse(url)?, &store::variables()))
    }

    fn fetch(&self, base: &str, wanted: &[Wanted<'_>], watch: &mut Watch<'_>) -> Result<Vec<Lost>> {
        let address = Address::parse(base)?;
        let (store, done) = (self.store(&address)?, AtomicU64::new(0));
        let sizes = wanted.iter().map(|wanted| wanted.object.bytes);
        let total = sizes.fold(0, u64::saturating_add);
        let what = match wanted {
            [one] => one.object.name.to_string(),
            all => format!("{} objects", all.len()),
        };
        let fetching = fetch::all(&store, &address, wanted, &done);
        let mut tell = || {
            let done = done.load(Ordering::Relaxed);
            watch(&Event::Downloading { file: &what, url: base, done, total: Some(total) })
        };
        drive(self.runtime()?, fetching, &mut tell)?
    }
}
