//! Where the bench measures: directories on several file systems.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory of our own on some file system, removed at the end.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    image: Option<PathBuf>,
}

impl Place {
    pub(crate) fn scratch(name: &'static str, parent: &Path) -> Place {
        let dir = parent.join(format!("awrite-bench-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Place { name, dir, image: None }
    }

    /// A file system that `command` makes in a file.
    pub(crate) fn made(name: &'static str, command: &[&str], work: &Path) -> Option<Place> {
        let mut place = Place::scratch(name, work);
        let image = place.dir.with_extension("img");
        // A sparse file: what is not written takes no room.
        let sized = File::create(&image).and_then(|file| file.set_len(4 << 30));
        let made = sized.is_ok()
            && run(Command::new(command[0]).args(&command[1..]).arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place.dir));
        place.image = Some(image);
        if !made {
            println!("no {name} of our own (not root, no {}, or no loop mounts): left out", command[0]);
            return None;
        }
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(image) = &self.image {
            run(Command::new("umount").arg(&self.dir));
            let _ = fs::remove_file(image);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn run(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
