//! What is below a URL.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use headstart::hub::objects::{LeftOut, Listing, Object, RANGE};
use headstart::{Error, Result};
use object_store::list::PaginatedListOptions;
use object_store::path::{Error as BadPath, Path};
use object_store::{Error as Failure, ObjectMeta, ObjectStoreExt};

use crate::address::{Address, Kind};
use crate::explain::explain;
use crate::store::{Pages, Store};

/// Objects in a page of a list.
const PAGE: usize = 1000;

/// Lists what is below `address`, or the one object that it is; `count` follows how many there are.
pub async fn list(store: &Store, address: &Address, count: &AtomicU64) -> Result<Listing> {
    let mut refused = None;
    if !address.folder {
        let bad = |e: BadPath| explain(&e.into(), address, "the object");
        let path = Path::parse(&address.key).map_err(bad)?;
        match store.objects.head(&path).await {
            Ok(meta) => return Ok(single(address, &meta)),
            // Some may list and read, and not ask whether there is an object of a name.
            Err(e @ (Failure::NotFound { .. } | Failure::PermissionDenied { .. })) => {
                refused = Some(e)
            }
            Err(e) => return Err(explain(&e, address, "the object")),
        }
    }
    let mut found = Found { count, objects: Vec::new(), left_out: LeftOut::default() };
    let listed = match &store.pages {
        Some(pages) => found.by_pages(&**pages, address).await,
        None => found.by_propfind(store, address).await,
    };
    match (listed, refused) {
        (Ok(()), refused) if found.objects.is_empty() && found.left_out.count == 0 => {
            if let Some(e @ Failure::PermissionDenied { .. }) = refused {
                return Err(explain(&e, address, "the object"));
            }
            let expected = "an object, or a folder of objects";
            Err(Error::invalid(address.url(), expected, "neither", "check the spelling"))
        }
        (Ok(()), _) => Ok(found.into_listing(address)),
        // A server that lists nothing said before that there is no such file.
        (Err(_), Some(refused)) if address.kind == Kind::Web => {
            Err(explain(&refused, address, "the file"))
        }
        (Err(e), _) => Err(explain(&e, address, "the list of objects")),
    }
}

/// The listing of an object alone.
fn single(address: &Address, meta: &ObjectMeta) -> Listing {
    let name = address.key.rsplit('/').next().unwrap_or_default();
    Listing {
        base: address.parent().url(),
        single: true,
        objects: vec![object(name, meta)],
        left_out: LeftOut::default(),
    }
}

fn object(name: &str, meta: &ObjectMeta) -> Object {
    // A weak tag (W/"...") cannot be asked for.
    let strong = meta.e_tag.as_deref().filter(|tag| !tag.starts_with("W/"));
    Object {
        name: name.into(),
        bytes: meta.size,
        modified: meta.last_modified.into(),
        tag: strong.filter(|_| meta.size > RANGE).map(Into::into),
    }
}

struct Found<'c> {
    count: &'c AtomicU64,
    objects: Vec<Object>,
    left_out: LeftOut,
}

impl Found<'_> {
    fn add(&mut self, address: &Address, meta: &ObjectMeta) {
        let path = meta.location.as_ref();
        let inside = match address.key.is_empty() {
            true => Some(path),
            // What stands for the folder itself has no name below it.
            false => path.strip_prefix(&*address.key).and_then(|rest| rest.strip_prefix('/')),
        };
        if let Some(name) = inside.filter(|name| !name.is_empty()) {
            self.objects.push(object(name, meta));
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Lists page by page. A page with a name that object_store refuses (`..`, an empty part, control characters) comes as an
    /// error that has the name: ever smaller pages lead up to that name, and the list goes on after it.
    async fn by_pages(&mut self, pages: &dyn Pages, address: &Address) -> Result<(), Failure> {
        let prefix = match address.key.is_empty() {
            true => None,
            false => Some(format!("{}/", address.key)),
        };
        let (mut token, mut after, mut most) = (None, None, PAGE);
        loop {
            let options = PaginatedListOptions {
                page_token: token.clone(),
                offset: after.clone().filter(|_| token.is_none()),
                max_keys: (most < PAGE).then_some(most),
                ..PaginatedListOptions::default()
            };
            let page = match pages.list_paginated(prefix.as_deref(), options).await {
                Ok(page) => page,
                Err(Failure::InvalidPath { .. }) if most > 1 => {
                    most = most.div_ceil(8);
                    continue;
                }
                Err(Failure::InvalidPath { source }) => {
                    let Some(name) = refused(&source) else { return Err(source.into()) };
                    // Each must lead on, whatever the server does.
                    if after.as_deref().is_some_and(|before: &str| before >= &*name) {
                        return Err(source.into());
                    }
                    let shown = name.strip_prefix(prefix.as_deref().unwrap_or_default());
                    self.left_out.add(shown.unwrap_or(&name), "no name of a file");
                    self.count.fetch_add(1, Ordering::Relaxed);
                    (token, after) = (None, Some(name));
                    continue;
                }
                Err(e) => return Err(e),
            };
            page.result.objects.iter().for_each(|meta| self.add(address, meta));
            most = (most * 8).min(PAGE);
            match page.page_token {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Lists by WebDAV.
    async fn by_propfind(&mut self, store: &Store, address: &Address) -> Result<(), Failure> {
        let prefix = Path::parse(&address.key)?;
        let mut list = store.objects.list(Some(&prefix).filter(|path| !path.is_root()));
        while let Some(meta) = list.next().await {
            self.add(address, &meta?);
        }
        Ok(())
    }

    fn into_listing(mut self, address: &Address) -> Listing {
        self.objects.sort_by(|a, b| a.name.cmp(&b.name));
        // What stands for a folder may be listed under the name of a file.
        self.objects.dedup_by(|next, kept| {
            let same = next.name == kept.name;
            if same && next.bytes > kept.bytes {
                std::mem::swap(next, kept);
            }
            same
        });
        let (objects, left_out) = (self.objects, self.left_out);
        Listing { base: address.url(), single: false, objects, left_out }
    }
}

/// The name that was refused.
fn refused(error: &BadPath) -> Option<String> {
    match error {
        BadPath::EmptySegment { path } | BadPath::BadSegment { path, .. } => Some(path.clone()),
        _ => None,
    }
}
