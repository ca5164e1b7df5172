//! Graviola's cryptography, for connections and for the signatures of requests.

use std::sync::OnceLock;

use graviola::hashing::hmac::Hmac;
use graviola::hashing::{Hash, HashContext, HashOutput, Sha256};
use graviola::signing::rsa::SigningKey;
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use object_store::{Error, Result};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// Makes Graviola the cryptography of this process's connections, unless it has one; whether this processor can run it.
pub fn install() -> Result<(), String> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let able = *DONE.get_or_init(|| {
        let able = graviola::util::is_cpu_supported();
        if able {
            // Another that is installed already is as good.
            let _ = rustls_graviola::default_provider().install_default();
        }
        able
    });
    match able {
        true => Ok(()),
        false => Err(
            "signatures and https need a processor with AES, PCLMULQDQ, BMI2, ADX and AVX2, or \
                      with Arm's AES, PMULL and SHA2"
                .into(),
        ),
    }
}

/// Graviola for signatures.
#[derive(Debug)]
pub struct Graviola;

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: what.to_string().into() }
}

fn failed(what: String) -> Error {
    Error::Generic { store: "signature", source: what.into() }
}

impl CryptoProvider for Graviola {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                Ok(Box::new(Digest { state: Some(Sha256::new()), out: None }))
            }
            _ => Err(unsupported("this hash")),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                Ok(Box::new(Mac { state: Some(Hmac::<Sha256>::new(secret)), out: None }))
            }
            _ => Err(unsupported("this hash")),
        }
    }

    fn sign(&self, algorithm: SigningAlgorithm, pem: &[u8]) -> Result<Box<dyn Signer>> {
        let key = match algorithm {
            SigningAlgorithm::RS256 => PrivateKeyDer::from_pem_slice(pem),
            _ => return Err(unsupported("this signature")),
        };
        let key = match key {
            Ok(PrivateKeyDer::Pkcs8(key)) => SigningKey::from_pkcs8_der(key.secret_pkcs8_der()),
            Ok(PrivateKeyDer::Pkcs1(key)) => SigningKey::from_pkcs1_der(key.secret_pkcs1_der()),
            Ok(_) => return Err(failed("expected an RSA key, found a key of another kind".into())),
            Err(e) => return Err(failed(format!("expected an RSA key as PEM: {e}"))),
        };
        let key = key.map_err(|e| {
            failed(format!("expected an RSA key of 2048 to 8192 bits, found another key: {e:?}"))
        })?;
        Ok(Box::new(Rsa(key)))
    }
}

struct Digest {
    state: Option<<Sha256 as Hash>::Context>,
    out: Option<HashOutput>,
}

impl DigestContext for Digest {
    fn update(&mut self, data: &[u8]) {
        if let Some(state) = &mut self.state {
            state.update(data);
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let Self { state, out } = self;
        once(state.take().map(|state| state.finish()), out)
    }
}

/// What was made of all data, now or before.
fn once(made: Option<HashOutput>, out: &mut Option<HashOutput>) -> Result<&[u8]> {
    if made.is_some() {
        *out = made;
    }
    out.as_ref().map(HashOutput::as_ref).ok_or_else(|| failed("no hash".into()))
}

struct Mac {
    state: Option<Hmac<Sha256>>,
    out: Option<HashOutput>,
}

impl HmacContext for Mac {
    fn update(&mut self, data: &[u8]) {
        if let Some(state) = &mut self.state {
            state.update(data);
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        let Self { state, out } = self;
        once(state.take().map(|state| state.finish()), out)
    }
}

struct Rsa(SigningKey);

impl Signer for Rsa {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.0.modulus_len_bytes()];
        let made = self.0.sign_pkcs1_sha256(&mut signature, text);
        made.map(<[u8]>::to_vec).map_err(|e| failed(format!("{e:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `tests/golden/generate.sh`.
    const PKCS8: &[u8] = include_bytes!("../tests/golden/pkcs8.pem");
    const PKCS1: &[u8] = include_bytes!("../tests/golden/pkcs1.pem");
    const SIGNATURE: &[u8] = include_bytes!("../tests/golden/signature.bin");
    const EC: &[u8] = include_bytes!("../tests/golden/ec.pem");

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn hmac(key: &[u8], parts: &[&[u8]]) -> String {
        let mut mac = Graviola.hmac(DigestAlgorithm::Sha256, key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        hex(mac.finish().unwrap())
    }

    #[test]
    fn hmacs_are_those_of_rfc_4231() {
        for (key, parts, expected) in [
            (
                vec![0x0b; 20],
                [&b"Hi "[..], b"There"],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe".to_vec(),
                [b"what do ya want ", b"for nothing?"],
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 20],
                [&[0xdd; 50], b""],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                vec![0xaa; 131],
                [b"Test Using Larger Than Block-Size Key", b" - Hash Key First"],
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hmac(&key, &parts), expected);
        }
    }

    #[test]
    fn hashes_are_those_of_fips_180() {
        let mut digest = Graviola.digest(DigestAlgorithm::Sha256).unwrap();
        digest.update(b"a");
        digest.update(b"bc");
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(digest.finish().unwrap()), expected);
    }

    #[test]
    fn signatures_are_those_of_openssl() {
        for pem in [PKCS8, PKCS1] {
            let signer = Graviola.sign(SigningAlgorithm::RS256, pem).unwrap();
            let signature = signer.sign(b"header.claims").unwrap();
            assert!(signature == SIGNATURE);
            assert!(signer.sign(b"header.other").unwrap() != SIGNATURE);
        }
        for (pem, part) in [(EC, "2048 to 8192 bits"), (&b"no key"[..], "PEM")] {
            let Err(error) = Graviola.sign(SigningAlgorithm::RS256, pem) else { panic!("a key") };
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
