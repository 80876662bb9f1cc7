// Numbers of workgroups that were folded onto y (see kernels::fold).
fn group_index(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
