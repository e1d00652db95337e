//! Tells the linker that Node keeps the addon loaded until it exits.

fn main() {
    napi_build::setup();
}
