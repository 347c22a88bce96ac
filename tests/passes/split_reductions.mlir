// RUN: tilewright opt %s --target sm_90 -p "split-reductions" | filecheck %s
// RUN: tilewright opt %s -p "split-reductions" | filecheck %s --check-prefix CPU

// CHECK-LABEL: func.func @total
// CHECK-NEXT:    %0 = tw.pad %x {low = #tw.dims<[0]>, high = #tw.dims<[34]>, value = #tw.scalar<0.0>}
// CHECK-NEXT:    %1 = tw.reshape %0 : !tw.tensor<[1000034], f32> -> !tw.tensor<[122, 8197], f32>
// CHECK-NEXT:    {{.*}} = tw.reduce "sum" %1 {dims = #tw.dims<[1]>}
// CHECK-NEXT:    {{.*}} = tw.reduce "sum" %2 {dims = #tw.dims<[0]>}
// CHECK-NEXT:    %s = tw.reshape
// CPU-LABEL: func.func @total
// CPU-NEXT:    %s = tw.reduce "sum" %x
func.func @total(%x: !tw.tensor<[1000000], f32>) -> !tw.tensor<[1], f32> {
  %s = tw.reduce "sum" %x {dims = #tw.dims<[0]>} : !tw.tensor<[1000000], f32> -> !tw.tensor<[1], f32>
  tw.return %s : !tw.tensor<[1], f32>
}

// Rows of columns are added up in parts too; parts of halves are kept in f32.
// CHECK-LABEL: func.func @columns
// CHECK-NEXT:    {{.*}} = tw.map "cast" %x : {{.*}} -> !tw.tensor<[8192, 64], f32>
// CHECK-NEXT:    {{.*}} = tw.permute
// CHECK-NEXT:    {{.*}} = tw.reshape {{.*}} -> !tw.tensor<[64, 64, 128], f32>
// CHECK-NEXT:    {{.*}} = tw.reduce "sum" {{.*}} {dims = #tw.dims<[2]>}
// CHECK-NEXT:    {{.*}} = tw.reduce "sum" {{.*}} {dims = #tw.dims<[1]>}
// CHECK-NEXT:    {{.*}} = tw.reshape
// CHECK-NEXT:    %s = tw.map "cast"
func.func @columns(%x: !tw.tensor<[8192, 64], bf16>) -> !tw.tensor<[1, 64], bf16> {
  %s = tw.reduce "sum" %x {dims = #tw.dims<[0]>} : !tw.tensor<[8192, 64], bf16> -> !tw.tensor<[1, 64], bf16>
  tw.return %s : !tw.tensor<[1, 64], bf16>
}

// Many rows keep all multiprocessors at work; a short one does not pay for a second kernel.
// CHECK-LABEL: func.func @whole
// CHECK-NEXT:    {{.*}} = tw.reduce "sum" %x
// CHECK-NEXT:    {{.*}} = tw.reduce "max" %y
// CHECK-NEXT:    tw.return
func.func @whole(%x: !tw.tensor<[4096, 100000], f32>, %y: !tw.tensor<[9000], f32>) -> (!tw.tensor<[4096, 1], f32>, !tw.tensor<[1], f32>) {
  %s = tw.reduce "sum" %x {dims = #tw.dims<[1]>} : !tw.tensor<[4096, 100000], f32> -> !tw.tensor<[4096, 1], f32>
  %m = tw.reduce "max" %y {dims = #tw.dims<[0]>} : !tw.tensor<[9000], f32> -> !tw.tensor<[1], f32>
  tw.return %s, %m : !tw.tensor<[4096, 1], f32>, !tw.tensor<[1], f32>
}
