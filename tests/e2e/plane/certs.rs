//! A tiny certificate authority: serving certificates, and one client certificate per actor so that
//! the audit log tells them apart.
use crate::fail::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

/// The authority and the folder that it writes to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

/// Certificate and key, as files.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "lastgood-e2e");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        let authority = Self { issuer: Issuer::new(params, key), folder: folder.into() };
        std::fs::write(authority.ca(), cert.pem()).context("writing the CA")?;
        let accounts = KeyPair::generate()?;
        std::fs::write(authority.service_account_key(), accounts.serialize_pem())?;
        std::fs::write(authority.service_account_public_key(), accounts.public_key_pem())?;
        Ok(authority)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Checks ServiceAccount tokens.
    pub(crate) fn service_account_public_key(&self) -> PathBuf {
        self.folder.join("sa.pub")
    }

    /// Signs ServiceAccount tokens.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.folder.join("sa.key")
    }

    pub(crate) fn server(&self, file: &str, names: &[&str]) -> Result<Identity> {
        let names = names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        self.sign(file, params)
    }

    /// A user with every right, told apart by name.
    pub(crate) fn master(&self, user: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.sign(user, params)
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> Result<Identity> {
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let identity =
            Identity { cert: self.folder.join(format!("{file}.crt")), key: self.folder.join(format!("{file}.key")) };
        std::fs::write(&identity.cert, cert.pem())?;
        std::fs::write(&identity.key, key.serialize_pem())?;
        Ok(identity)
    }
}
