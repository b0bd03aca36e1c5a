//! The main job: input to a file, whatever the file is called, whoever owns it, whatever is there already.

mod attributes;
mod input;
mod leased;
mod links;
mod names;
mod permissions;
mod refused;
mod settled;
mod sparse;
mod staged;
mod steps;
mod surroundings;
mod targets;
