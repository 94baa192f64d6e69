use service_mesh::with_retry;

#[with_retry]
extern "C" fn fetch() -> Result<(), u32> {
    Ok(())
}

fn main() {
    let _ = fetch();
}
