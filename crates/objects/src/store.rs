//! Opening a bucket, with credentials, region and endpoint of the environment.

use std::fmt::Debug;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use headstart::hub::Hub;
use headstart::{Error, Result};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::address::{Address, Kind};
use crate::crypto::{self, Graviola};
use crate::explain::explain;

/// How long a machine in a cloud takes at most to say that it is one.
const INSTANCE: Duration = Duration::from_secs(1);
/// Where the clouds' machines ask for credentials.
const METADATA: &str = "169.254.169.254:80";
/// Requests for one object are made again for at most this long; object_store makes them with the same credentials.
const LONGEST: Duration = Duration::from_secs(180);

/// An open bucket or server.
#[derive(Debug)]
pub struct Store {
    pub objects: Arc<dyn ObjectStore>,
    /// Lists page by page; `None` for web servers.
    pub pages: Option<Arc<dyn Pages>>,
}

/// A [`PaginatedListStore`] that can be shown in debugging.
pub trait Pages: PaginatedListStore + Debug {}

impl<S: PaginatedListStore + Debug> Pages for S {}

/// The variables that settings of stores are read from.
pub fn variables() -> Vec<(String, String)> {
    let all = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let known =
        |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|start| name.starts_with(start));
    // Of a file that a secret is read from, the end of its line may be left.
    let all = all.map(|(name, value)| (name, value.trim().to_string()));
    all.filter(|(name, value)| !value.is_empty() && (known(name) || name == "HOME")).collect()
}

/// Fails where a variable has what no request can: object_store takes such values as they are. Secrets are not shown.
fn check(kind: Kind, variables: &[(String, String)]) -> Result<()> {
    let prefix = match kind {
        Kind::S3 => "AWS_",
        Kind::Gs => "GOOGLE_",
        Kind::Az => "AZURE_",
        Kind::Web => return Ok(()),
    };
    for (name, value) in variables.iter().filter(|(name, _)| name.starts_with(prefix)) {
        // Google's is a text of several lines.
        if name.ends_with("SERVICE_ACCOUNT_KEY") || name.contains("_USE_") {
            continue;
        }
        let is_path = ["FILE", "PATH", "CREDENTIALS", "ACCOUNT"].iter().any(|p| name.contains(p));
        if value.contains(|c: char| c.is_control() || (!is_path && !c.is_ascii())) {
            let expected = "one line of plain characters";
            let hint = "look for line ends and characters that came with copying it";
            return Err(Error::invalid(name, expected, "others among them", hint));
        }
        let is_address = ["ENDPOINT", "_URL", "_URI"].iter().any(|part| name.contains(part))
            && !name.ends_with("RELATIVE_URI");
        let asks = url::Url::parse(value).ok().filter(|url| {
            let secret = !url.username().is_empty() || url.password().is_some();
            let http = ["http", "https"].contains(&url.scheme());
            http && url.has_host() && !value.contains(' ') && !secret
        });
        if is_address && asks.is_none() {
            let expected = "a URL that begins with http:// or https://, without a password";
            let found = value.rsplit('@').next().unwrap_or_default();
            let hint = format!("{name}=http://127.0.0.1:9000, for one");
            return Err(Error::invalid(name, expected, found, hint));
        }
    }
    Ok(())
}

/// The value of a variable.
fn of<'v>(variables: &'v [(String, String)], name: &str) -> Option<&'v str> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn is_true(variables: &[(String, String)], name: &str) -> bool {
    of(variables, name)
        .is_some_and(|v| matches!(&*v.to_lowercase(), "true" | "1" | "yes" | "on" | "y"))
}

/// Which of several servers or accounts has a bucket of that name.
pub fn server(address: &Address, variables: &[(String, String)]) -> String {
    let names: &[&str] = match address.kind {
        Kind::S3 => &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
        Kind::Gs => &["GOOGLE_BASE_URL"],
        Kind::Az => &[
            "AZURE_STORAGE_ENDPOINT",
            "AZURE_ENDPOINT",
            "AZURE_STORAGE_ACCOUNT_NAME",
            "AZURE_ACCOUNT_NAME",
        ],
        Kind::Web => &[],
    };
    let set: Vec<&str> = names.iter().filter_map(|name| of(variables, name)).collect();
    set.join(" ")
}

impl Store {
    /// Opens what `address` is in; no request is made, but where credentials can only be those of a machine in the cloud it is
    /// looked whether this is one.
    ///
    /// # Errors
    /// Names the variables where credentials are missing.
    pub fn open(address: &Address, variables: &[(String, String)], hub: &Hub) -> Result<Store> {
        crypto::install().map_err(|reason| {
            Error::invalid(address.url(), "a processor for cryptography", reason, "")
        })?;
        check(address.kind, variables)?;
        let failed = |error: object_store::Error| explain(&error, address, "settings");
        Ok(match address.kind {
            Kind::S3 => {
                credentials_of_s3(address, variables)?;
                shared(s3(address, variables, hub).build().map_err(failed)?)
            }
            Kind::Gs => {
                credentials_of_gs(address, variables)?;
                shared(gs(address, variables, hub).build().map_err(failed)?)
            }
            Kind::Az => {
                credentials_of_az(address, variables)?;
                shared(az(address, variables, hub).build().map_err(failed)?)
            }
            Kind::Web => {
                let store = HttpBuilder::new()
                    .with_url(&address.root)
                    .with_client_options(options(hub).with_allow_http(true))
                    .with_retry(retry(hub));
                Store { objects: Arc::new(store.build().map_err(failed)?), pages: None }
            }
        })
    }
}

fn shared<S: ObjectStore + PaginatedListStore + Debug>(store: S) -> Store {
    let store = Arc::new(store);
    Store { objects: store.clone(), pages: Some(store) }
}

/// Time-outs are those of downloads: for a connection and for the next bytes, not for the whole of a file.
fn options(hub: &Hub) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(hub.timeout)
        .with_read_timeout(hub.timeout)
}

fn retry(hub: &Hub) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: hub.pause / 5,
        max_backoff: Duration::from_secs(15),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: hub.attempts as usize, retry_timeout: LONGEST }
}

/// The settings of a store among the variables that begin with `prefix`, by its own names for them.
fn settings<K: FromStr>(variables: &[(String, String)], prefix: &str) -> Vec<(K, String)> {
    let own = variables.iter().filter(|(name, _)| name.starts_with(prefix));
    own.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.clone())))
        .collect()
}

/// Whether requests to an endpoint are meant to go without encryption.
fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|url| url.starts_with("http://"))
}

fn s3(address: &Address, variables: &[(String, String)], hub: &Hub) -> AmazonS3Builder {
    let endpoint = of(variables, "AWS_ENDPOINT_URL_S3")
        .or(of(variables, "AWS_ENDPOINT_URL"))
        .or(of(variables, "AWS_ENDPOINT"));
    let builder = AmazonS3Builder::new()
        .with_client_options(options(hub).with_allow_http(is_plain(endpoint)))
        .with_retry(retry(hub))
        .with_crypto_provider(Arc::new(Graviola));
    // AWS_REGION comes before AWS_DEFAULT_REGION, whatever their order here.
    let builder = settings(variables, "AWS_")
        .into_iter()
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    builder.with_url(&address.root)
}

fn gs(address: &Address, variables: &[(String, String)], hub: &Hub) -> GoogleCloudStorageBuilder {
    let plain = is_plain(of(variables, "GOOGLE_BASE_URL"));
    let builder = GoogleCloudStorageBuilder::new()
        .with_client_options(options(hub).with_allow_http(plain))
        .with_retry(retry(hub))
        .with_crypto_provider(Arc::new(Graviola));
    let builder = settings(variables, "GOOGLE_")
        .into_iter()
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    builder.with_url(&address.root)
}

fn az(address: &Address, variables: &[(String, String)], hub: &Hub) -> MicrosoftAzureBuilder {
    let endpoint = of(variables, "AZURE_STORAGE_ENDPOINT").or(of(variables, "AZURE_ENDPOINT"));
    let plain = is_plain(endpoint) || is_true(variables, "AZURE_STORAGE_USE_EMULATOR");
    let builder = MicrosoftAzureBuilder::new()
        .with_client_options(options(hub).with_allow_http(plain))
        .with_retry(retry(hub))
        .with_crypto_provider(Arc::new(Graviola));
    let builder = settings(variables, "AZURE_")
        .into_iter()
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    builder.with_url(&address.root)
}

/// Whether this machine answers where those of a cloud do.
fn is_instance(endpoint: &str) -> bool {
    let endpoint =
        endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).trim_end_matches('/');
    let with_port = if endpoint.contains(':') { endpoint.into() } else { format!("{endpoint}:80") };
    let addresses = with_port.to_socket_addrs().into_iter().flatten();
    addresses.take(2).any(|address| TcpStream::connect_timeout(&address, INSTANCE).is_ok())
}

fn missing(address: &Address, found: &str, hint: &str) -> Error {
    let found = format!("none: {found}, and this is no machine of the cloud that has its own");
    Error::invalid(address.url(), "credentials", found, hint)
}

fn credentials_of_s3(address: &Address, variables: &[(String, String)]) -> Result<()> {
    let has = |name| of(variables, name).is_some();
    let given = (has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY"))
        || (has("AWS_WEB_IDENTITY_TOKEN_FILE") && has("AWS_ROLE_ARN"))
        || has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        || has("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        || is_true(variables, "AWS_SKIP_SIGNATURE");
    let endpoint = of(variables, "AWS_METADATA_ENDPOINT").unwrap_or(METADATA);
    if given || (!is_true(variables, "AWS_EC2_METADATA_DISABLED") && is_instance(endpoint)) {
        return Ok(());
    }
    Err(missing(
        address,
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
        "set them (of a profile: eval \"$(aws configure export-credentials --format env)\"), or \
         AWS_SKIP_SIGNATURE=true for a public bucket",
    ))
}

fn credentials_of_gs(address: &Address, variables: &[(String, String)]) -> Result<()> {
    let names = [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN",
    ];
    let by_gcloud = of(variables, "HOME").is_some_and(|home| {
        Path::new(home).join(".config/gcloud/application_default_credentials.json").exists()
    });
    let given = names.iter().any(|name| of(variables, name).is_some())
        || is_true(variables, "GOOGLE_SKIP_SIGNATURE")
        || by_gcloud;
    if given || is_instance(METADATA) {
        return Ok(());
    }
    Err(missing(
        address,
        "GOOGLE_APPLICATION_CREDENTIALS and GOOGLE_SERVICE_ACCOUNT are not set",
        "set one to the file of a service account's key, or run gcloud auth application-default login, or set \
         GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    ))
}

fn credentials_of_az(address: &Address, variables: &[(String, String)]) -> Result<()> {
    let names = [
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_MSI_ENDPOINT",
        "AZURE_IDENTITY_ENDPOINT",
    ];
    let given = names.iter().any(|name| of(variables, name).is_some())
        || ["AZURE_SKIP_SIGNATURE", "AZURE_USE_AZURE_CLI", "AZURE_STORAGE_USE_EMULATOR"]
            .iter()
            .any(|name| is_true(variables, name));
    if given || is_instance(METADATA) {
        return Ok(());
    }
    Err(missing(
        address,
        "AZURE_STORAGE_ACCOUNT_KEY and AZURE_STORAGE_SAS_TOKEN are not set",
        "set one, with AZURE_STORAGE_ACCOUNT_NAME; or AZURE_USE_AZURE_CLI=true after az login; or \
         AZURE_SKIP_SIGNATURE=true for a public container",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn open(url: &str, pairs: &[(&str, &str)]) -> Result<Store> {
        Store::open(&Address::parse(url).unwrap(), &set(pairs), &Hub::new("cache"))
    }

    #[test]
    fn buckets_of_every_kind_open_by_their_variables() {
        let key = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        open("s3://b/x", &key).unwrap();
        open("s3://b", &[("AWS_SKIP_SIGNATURE", "true")]).unwrap();
        let account = [("AZURE_STORAGE_ACCOUNT_NAME", "a"), ("AZURE_STORAGE_ACCOUNT_KEY", "YQ==")];
        open("az://c/x", &account).unwrap();
        open("abfss://c@account.dfs.core.windows.net/x", &account[1..]).unwrap();
        open("gs://b/x", &[("GOOGLE_SKIP_SIGNATURE", "true")]).unwrap();
        let pem = include_str!("../tests/golden/pkcs8.pem").replace('\n', "\\n");
        let account = format!(
            r#"{{"type": "service_account", "private_key": "{pem}", "private_key_id": "1", "client_email": "a@b"}}"#
        );
        let store = open("gs://b/x", &[("GOOGLE_SERVICE_ACCOUNT_KEY", &account)]).unwrap();
        assert!(store.pages.is_some());
        assert!(open("https://localhost/x", &[]).unwrap().pages.is_none());
    }

    #[test]
    fn variables_that_no_request_can_have_are_errors() {
        let good = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        let address = Address::parse("s3://b/x").unwrap();
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL", "nonsense"),
            ("AWS_ENDPOINT_URL_S3", "http:"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:90 00"),
            ("AWS_ENDPOINT", "ftp://127.0.0.1"),
            ("AWS_ENDPOINT_URL", "http://me:kéy@127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL", "http://me:s%20kéy@127.0.0.1:9000"),
            ("AWS_ACCESS_KEY_ID", "a\nb"),
            ("AWS_SESSION_TOKEN", "tok\u{7f}"),
            ("AWS_SECRET_ACCESS_KEY", "kéy"),
        ] {
            let all = set(&[&good[..], &[(name, value)]].concat());
            let error = Store::open(&address, &all, &Hub::new("cache")).unwrap_err();
            let text = format!("{error} {}", error.hint().unwrap());
            assert!(text.contains(name) && !text.contains("kéy"), "{text}");
        }
        open("s3://b/x", &[&good[..], &[("AWS_ENDPOINT_URL", "http://[::1]:9000/x")]].concat())
            .unwrap();
        // Those of another store do not matter.
        open("s3://b/x", &[&good[..], &[("AZURE_ENDPOINT", "none")]].concat()).unwrap();
    }

    #[test]
    fn settings_come_from_the_environment_as_the_sdks_read_it() {
        use object_store::aws::AmazonS3ConfigKey as Key;

        let hub = Hub::new("cache");
        let address = Address::parse("s3://photos/x").unwrap();
        let variables = set(&[
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
            ("AWS_SESSION_TOKEN", "c"),
            ("AWS_REGION", "eu-west-3"),
            ("AWS_ENDPOINT_URL_S3", "http://localhost:9000"),
            ("AWS_PROFILE", "unknown"),
        ]);
        let builder = s3(&address, &variables, &hub);
        for (key, value) in [
            (Key::AccessKeyId, "a"),
            (Key::SecretAccessKey, "b"),
            (Key::Token, "c"),
            (Key::Region, "eu-west-3"),
            (Key::S3Endpoint, "http://localhost:9000"),
        ] {
            assert_eq!(builder.get_config_value(&key).as_deref(), Some(value), "{key:?}");
        }
        builder.build().unwrap();
        assert!(is_plain(Some("http://h")) && !is_plain(Some("https://h")) && !is_plain(None));
    }

    #[test]
    fn missing_credentials_are_named() {
        // Nothing listens there.
        let nobody = [("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")];
        for pairs in [&nobody[..], &[("AWS_EC2_METADATA_DISABLED", "true")]] {
            let error = open("s3://photos/x", pairs).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("s3://photos/x") && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
            assert!(error.hint().unwrap().contains("AWS_SKIP_SIGNATURE"));
        }
        assert!(!is_instance("127.0.0.1:1"));
    }
}
