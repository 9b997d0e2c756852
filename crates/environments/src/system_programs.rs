//! Programs of the host that a function needs, such as a browser or a converter.
//!
//! This module only checks the programs and does not install them: each program must be in a system
//! folder that sandboxes mount.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The `PATH` of functions, except for the environment's own folder.
const SHOWN: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// System folders that sandboxes mount.
const SYSTEM: [&str; 5] = ["/usr/", "/bin/", "/sbin/", "/lib", "/nix/store/"];

/// Packages of Debian and Ubuntu by program, if the names differ.
const DEBIAN: [(&str, &str); 26] = [
    ("7z", "p7zip-full"),
    ("chromedriver", "chromium-driver"),
    ("convert", "imagemagick"),
    ("dot", "graphviz"),
    ("exiftool", "libimage-exiftool-perl"),
    ("firefox", "firefox-esr"),
    ("gdalinfo", "gdal-bin"),
    ("gs", "ghostscript"),
    ("java", "default-jre-headless"),
    ("magick", "imagemagick"),
    ("mysql", "default-mysql-client"),
    ("node", "nodejs"),
    ("ogr2ogr", "gdal-bin"),
    ("pdfinfo", "poppler-utils"),
    ("pdfimages", "poppler-utils"),
    ("pdftk", "pdftk-java"),
    ("pdftoppm", "poppler-utils"),
    ("pdftotext", "poppler-utils"),
    ("pg_dump", "postgresql-client"),
    ("psql", "postgresql-client"),
    ("rsvg-convert", "librsvg2-bin"),
    ("Rscript", "r-base-core"),
    ("soffice", "libreoffice"),
    ("tesseract", "tesseract-ocr"),
    ("xelatex", "texlive-xetex"),
    ("Xvfb", "xvfb"),
];

/// Programs whose package in Debian and Ubuntu has the same name.
const DEBIAN_SAME: [&str; 18] = [
    "chromium",
    "curl",
    "duckdb",
    "ffmpeg",
    "git",
    "gnuplot",
    "jq",
    "libreoffice",
    "make",
    "openssl",
    "pandoc",
    "qpdf",
    "rsync",
    "sox",
    "sqlite3",
    "unzip",
    "wget",
    "wkhtmltopdf",
];

/// Rejects programs that a function would not find on its `PATH`.
pub(crate) fn check(programs: &[String]) -> Result<()> {
    programs.iter().try_for_each(|program| find(program, &SHOWN.map(PathBuf::from)).map(drop))
}

fn find(program: &str, folders: &[PathBuf]) -> Result<PathBuf> {
    let named = |c: char| c.is_ascii_alphanumeric() || "_-.+".contains(c);
    if program.is_empty() || !program.chars().all(named) {
        return Err(Error::failed(
            format!("`{program}` is not the name of a program"),
            "Write the name of the executable, such as `system=[\"chromium\"]`.",
        ));
    }
    let found = folders.iter().map(|folder| folder.join(program));
    let found = found.into_iter().find(|path| crate::uv::executable(path));
    let Some(found) = found else {
        let message = format!("the program `{program}` is not on this machine");
        return Err(Error::failed(message, hint(program)));
    };
    let leads = std::fs::canonicalize(&found).unwrap_or_else(|_| found.clone());
    if is_shown(&leads) || !is_shown(&found) {
        return Ok(found);
    }
    Err(Error::failed(
        format!(
            "the program `{program}` is a link to `{}`, which functions cannot access",
            leads.display()
        ),
        "Install the program below `/usr`, as the packages of a distribution do.",
    ))
}

fn is_shown(path: &Path) -> bool {
    path.to_str().is_some_and(|path| SYSTEM.iter().any(|shown| path.starts_with(shown)))
}

fn hint(program: &str) -> String {
    let other = DEBIAN.iter().find(|(name, _)| *name == program).map(|(_, package)| *package);
    let same = DEBIAN_SAME.iter().find(|name| **name == program).copied();
    match other.or(same) {
        Some(package) => format!(
            "Install the program on this machine: on Debian and Ubuntu with `apt-get install \
             {package}`."
        ),
        None => {
            format!(
                "Install the program on this machine in `{}` or another system folder.",
                SHOWN[1]
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use headwater_model::ToProblem;

    use super::*;

    #[test]
    fn missing_programs_are_reported_with_their_package() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        std::fs::write(&program, "").unwrap();
        let folders = [folder.path().to_owned()];
        assert!(find("tool", &folders).is_err(), "the file is not executable");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("tool", &folders).unwrap(), program);
        symlink("/bin/sh", folder.path().join("shell")).unwrap();
        assert!(find("shell", &folders).is_ok());
        let check = |program: &str, message: &str, package: &str| {
            let error = find(program, &folders).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap().contains(package), "{:?}", error.hint());
        };
        check("chromium", "the program `chromium` is not on", "apt-get install chromium`");
        check("pdftotext", "`pdftotext`", "apt-get install poppler-utils`");
        check("no-such-tool", "`no-such-tool`", "/usr/bin");
        check("/bin/sh", "is not the name of a program", "system=");
        check("a b", "is not the name of a program", "system=");
        assert!(super::check(&["sh".to_owned()]).is_ok());
    }
}
