//! Encrypted connections, without C.

use std::path::Path;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::memory::{self, Claim};

/// Longest file of certificates.
const LONGEST: u64 = 16 << 20;

/// How to make encrypted connections, or why this machine cannot. Certificates are checked against Mozilla's
/// roots, or against those of a PEM file.
pub(crate) fn config(roots: Option<&Path>) -> Result<TlsConfig, String> {
    let Some(file) = roots else {
        return with_roots(RootCerts::WebPki);
    };
    let shown = file.display();
    let text = memory::read(file, LONGEST, &mut Claim::default())
        .map_err(|e| format!("certificates in {shown}: {e}"))?;
    let certificates: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("no certificates in {shown}"));
    }
    with_roots(RootCerts::Specific(certificates.into()))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn with_roots(roots: RootCerts) -> Result<TlsConfig, String> {
    // Graviola panics on a processor that lacks one of these.
    #[cfg(target_arch = "x86_64")]
    let needed = [
        ("aes", std::arch::is_x86_feature_detected!("aes")),
        ("pclmulqdq", std::arch::is_x86_feature_detected!("pclmulqdq")),
        ("bmi1", std::arch::is_x86_feature_detected!("bmi1")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("adx", std::arch::is_x86_feature_detected!("adx")),
        ("avx", std::arch::is_x86_feature_detected!("avx")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
    ];
    #[cfg(target_arch = "aarch64")]
    let needed = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("aes", std::arch::is_aarch64_feature_detected!("aes")),
        ("pmull", std::arch::is_aarch64_feature_detected!("pmull")),
        ("sha2", std::arch::is_aarch64_feature_detected!("sha2")),
    ];
    let missing: Vec<&str> = needed.iter().filter(|n| !n.1).map(|n| n.0).collect();
    if !missing.is_empty() {
        return Err(format!("https needs a processor with {}", missing.join(", ")));
    }
    let provider = std::sync::Arc::new(rustls_graviola::default_provider());
    let builder = TlsConfig::builder().root_certs(roots);
    Ok(builder.unversioned_rustls_crypto_provider(provider).build())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn with_roots(_roots: RootCerts) -> Result<TlsConfig, String> {
    Err("https needs an x86-64 or 64-bit ARM processor".into())
}
