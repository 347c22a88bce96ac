// RUN: tilewright opt %s -p "layout" | filecheck %s

// CHECK-LABEL: func.func @read_by_a_kernel
// CHECK:       tw.conv %x, %w {{.*}}strides = #tw.dims<[512, 1, 64, 8]>
func.func @read_by_a_kernel(%x: !tw.tensor<[2, 3, 8, 8], f32>, %w: !tw.tensor<[8, 3, 3, 3], f32>) -> !tw.tensor<[2, 8, 1, 1], f32> {
  %y = tw.conv %x, %w {stride = #tw.dims<[1, 1]>, padding = #tw.dims<[1, 1]>, dilation = #tw.dims<[1, 1]>, transposed = #tw.scalar<false>, output_padding = #tw.dims<[0, 0]>, groups = #tw.dims<[1]>, strides = #tw.dims<[512, 64, 8, 1]>} : (!tw.tensor<[2, 3, 8, 8], f32>, !tw.tensor<[8, 3, 3, 3], f32>) -> !tw.tensor<[2, 8, 8, 8], f32>
  %z = tw.reduce "sum" %y {dims = #tw.dims<[2, 3]>} : !tw.tensor<[2, 8, 8, 8], f32> -> !tw.tensor<[2, 8, 1, 1], f32>
  tw.return %z : !tw.tensor<[2, 8, 1, 1], f32>
}

// The caller wants it as it was traced.
// CHECK-LABEL: func.func @returned
// CHECK:       tw.conv %x, %w {{.*}}strides = #tw.dims<[512, 64, 8, 1]>
func.func @returned(%x: !tw.tensor<[2, 3, 8, 8], f32>, %w: !tw.tensor<[8, 3, 3, 3], f32>) -> !tw.tensor<[2, 8, 64], f32> {
  %y = tw.conv %x, %w {stride = #tw.dims<[1, 1]>, padding = #tw.dims<[1, 1]>, dilation = #tw.dims<[1, 1]>, transposed = #tw.scalar<false>, output_padding = #tw.dims<[0, 0]>, groups = #tw.dims<[1]>, strides = #tw.dims<[512, 64, 8, 1]>} : (!tw.tensor<[2, 3, 8, 8], f32>, !tw.tensor<[8, 3, 3, 3], f32>) -> !tw.tensor<[2, 8, 8, 8], f32>
  %z = tw.reshape %y : !tw.tensor<[2, 8, 8, 8], f32> -> !tw.tensor<[2, 8, 64], f32>
  tw.return %z : !tw.tensor<[2, 8, 64], f32>
}

// The library would lay out more of the weight in each call than of anything else.
// CHECK-LABEL: func.func @large_weight
// CHECK:       tw.conv %x, %w {{.*}}strides = #tw.dims<[256, 4, 2, 1]>
func.func @large_weight(%x: !tw.tensor<[1, 64, 2, 2], f32>, %w: !tw.tensor<[64, 64, 3, 3], f32>) -> !tw.tensor<[1, 64, 1, 1], f32> {
  %y = tw.conv %x, %w {stride = #tw.dims<[1, 1]>, padding = #tw.dims<[1, 1]>, dilation = #tw.dims<[1, 1]>, transposed = #tw.scalar<false>, output_padding = #tw.dims<[0, 0]>, groups = #tw.dims<[1]>, strides = #tw.dims<[256, 4, 2, 1]>} : (!tw.tensor<[1, 64, 2, 2], f32>, !tw.tensor<[64, 64, 3, 3], f32>) -> !tw.tensor<[1, 64, 2, 2], f32>
  %z = tw.reduce "sum" %y {dims = #tw.dims<[2, 3]>} : !tw.tensor<[1, 64, 2, 2], f32> -> !tw.tensor<[1, 64, 1, 1], f32>
  tw.return %z : !tw.tensor<[1, 64, 1, 1], f32>
}

// One weight a pixel lies alike in both layouts.
// CHECK-LABEL: func.func @one_by_one
// CHECK:       tw.conv %x, %w {{.*}}strides = #tw.dims<[256, 1, 128, 64]>
func.func @one_by_one(%x: !tw.tensor<[1, 64, 2, 2], f32>, %w: !tw.tensor<[64, 64, 1, 1], f32>) -> !tw.tensor<[1, 64, 1, 1], f32> {
  %y = tw.conv %x, %w {stride = #tw.dims<[1, 1]>, padding = #tw.dims<[0, 0]>, dilation = #tw.dims<[1, 1]>, transposed = #tw.scalar<false>, output_padding = #tw.dims<[0, 0]>, groups = #tw.dims<[1]>, strides = #tw.dims<[256, 4, 2, 1]>} : (!tw.tensor<[1, 64, 2, 2], f32>, !tw.tensor<[64, 64, 1, 1], f32>) -> !tw.tensor<[1, 64, 2, 2], f32>
  %z = tw.reduce "sum" %y {dims = #tw.dims<[2, 3]>} : !tw.tensor<[1, 64, 2, 2], f32> -> !tw.tensor<[1, 64, 1, 1], f32>
  tw.return %z : !tw.tensor<[1, 64, 1, 1], f32>
}

// CHECK-LABEL: func.func @transposed
// CHECK:       tw.conv %x, %w {{.*}}strides = #tw.dims<[800, 100, 10, 1]>
func.func @transposed(%x: !tw.tensor<[2, 3, 8, 8], f32>, %w: !tw.tensor<[3, 8, 3, 3], f32>) -> !tw.tensor<[2, 8, 1, 1], f32> {
  %y = tw.conv %x, %w {stride = #tw.dims<[1, 1]>, padding = #tw.dims<[0, 0]>, dilation = #tw.dims<[1, 1]>, transposed = #tw.scalar<true>, output_padding = #tw.dims<[0, 0]>, groups = #tw.dims<[1]>, strides = #tw.dims<[800, 100, 10, 1]>} : (!tw.tensor<[2, 3, 8, 8], f32>, !tw.tensor<[3, 8, 3, 3], f32>) -> !tw.tensor<[2, 8, 10, 10], f32>
  %z = tw.reduce "sum" %y {dims = #tw.dims<[2, 3]>} : !tw.tensor<[2, 8, 10, 10], f32> -> !tw.tensor<[2, 8, 1, 1], f32>
  tw.return %z : !tw.tensor<[2, 8, 1, 1], f32>
}
