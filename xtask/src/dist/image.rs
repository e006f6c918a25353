//! An OCI image with only the program and its licences, for each architecture; all in one archive.
//!
//! Owns the format (image-spec 1.1, the layout as a tar): three kinds of JSON and a compressed archive, which name one another by their
//! checksums. No daemon takes part.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Release, archive, make_anew, names};

/// In the layout, before it is an archive.
const FOLDER: &str = "target/dist-image";
const BLOBS: &str = "blobs/sha256";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// What is in an image, of the tree.
const PATHS: [&str; 2] = ["usr/bin", "usr/share/licenses"];

/// Of all architectures, until it is written.
pub(super) struct Image<'a> {
    release: &'a Release,
    folder: PathBuf,
    manifests: Vec<Value>,
}

impl<'a> Image<'a> {
    pub(super) fn begin(release: &'a Release) -> Result<Self> {
        let folder = release.root.join(FOLDER);
        make_anew(&folder)?;
        fs::create_dir_all(folder.join(BLOBS)).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { release, folder, manifests: Vec::new() })
    }

    pub(super) fn add(&mut self, architecture: &str, tree: &Path) -> Result<()> {
        let file = self.folder.join("layer.tar");
        archive::plain(self.release, tree, &PATHS, &file)?;
        let contents = archive::sha256(&file)?;
        archive::compress(&file)?;
        let layer = self.blob("layer.tar.gz", "application/vnd.oci.image.layer.v1.tar+gzip")?;
        let labels = json!({
            "org.opencontainers.image.title": "icmp-ctl",
            "org.opencontainers.image.version": self.release.version,
            "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        });
        let platform = json!({ "architecture": names(architecture)?.oci, "os": "linux" });
        let mut config = platform.clone();
        config["created"] = json!(self.release.date);
        config["config"] =
            json!({ "Entrypoint": ["/usr/bin/icmp-ctl"], "WorkingDir": "/", "Labels": labels });
        config["rootfs"] = json!({ "type": "layers", "diff_ids": [format!("sha256:{contents}")] });
        config["history"] = json!([{ "created": self.release.date, "created_by": "cargo xtask dist" }]);
        let config = self.json(&config, "application/vnd.oci.image.config.v1+json")?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let mut manifest = self.json(&manifest, kind)?;
        manifest["platform"] = platform;
        self.manifests.push(manifest);
        Ok(())
    }

    /// One tag for all: an index of its own, which the layout's index names.
    pub(super) fn write(self) -> Result<()> {
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": self.manifests });
        let mut image = self.json(&index, kind)?;
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": self.release.image() });
        let top = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [image] });
        for (file, text) in [("index.json", top.to_string()), ("oci-layout", LAYOUT.to_owned())] {
            fs::write(self.folder.join(file), text).with_context(|| format!("writing the image's {file}"))?;
        }
        let paths = ["blobs", "index.json", "oci-layout"];
        archive::plain(self.release, &self.folder, &paths, &self.release.file("-oci.tar"))
    }

    fn json(&self, value: &Value, kind: &str) -> Result<Value> {
        fs::write(self.folder.join("json"), value.to_string()).context("writing a part of the image")?;
        self.blob("json", kind)
    }

    /// Moves a file to where it is found by its checksum; what is said is how others name it.
    fn blob(&self, name: &str, kind: &str) -> Result<Value> {
        let file = self.folder.join(name);
        let (digest, size) = (archive::sha256(&file)?, fs::metadata(&file)?.len());
        let to = self.folder.join(BLOBS).join(&digest);
        fs::rename(&file, &to).with_context(|| format!("writing {}", to.display()))?;
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": size }))
    }
}
