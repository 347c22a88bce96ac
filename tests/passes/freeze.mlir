// RUN: tilewright opt %s -p "freeze" | filecheck %s

// Scale and shift by channel go into weight and bias.
// CHECK-LABEL: func.func @convolution
// CHECK:         %[[S:.*]] = tw.reshape %s : !tw.tensor<[8, 1, 1], f32> -> !tw.tensor<[8], f32>
// CHECK:         %[[V:.*]] = tw.map "mul" %w, %
// CHECK:         tw.conv %x, %[[V]], %{{.*}} {
// CHECK-NOT:     tw.map
// CHECK:         tw.return
func.func @convolution(%x: !tw.tensor<[2, 3, 4, 4], f32>, %w: !tw.tensor<[8, 3, 1, 1], f32>, %s: !tw.tensor<[8, 1, 1], f32>, %t: !tw.tensor<[8, 1, 1], f32>) -> !tw.tensor<[2, 8, 4, 4], f32> attributes {frozen = #tw.dims<[1, 2, 3]>} {
  %y = tw.conv %x, %w {stride = #tw.dims<[1, 1]>, padding = #tw.dims<[0, 0]>, dilation = #tw.dims<[1, 1]>, transposed = #tw.scalar<false>, output_padding = #tw.dims<[0, 0]>, groups = #tw.dims<[1]>, strides = #tw.dims<[128, 16, 4, 1]>} : (!tw.tensor<[2, 3, 4, 4], f32>, !tw.tensor<[8, 3, 1, 1], f32>) -> !tw.tensor<[2, 8, 4, 4], f32>
  %z = tw.map "mul" %y, %s : (!tw.tensor<[2, 8, 4, 4], f32>, !tw.tensor<[8, 1, 1], f32>) -> !tw.tensor<[2, 8, 4, 4], f32>
  %r = tw.map "add" %z, %t : (!tw.tensor<[2, 8, 4, 4], f32>, !tw.tensor<[8, 1, 1], f32>) -> !tw.tensor<[2, 8, 4, 4], f32>
  tw.return %r : !tw.tensor<[2, 8, 4, 4], f32>
}

// CHECK-LABEL: func.func @product
// CHECK:         tw.map "div" %w, %
// CHECK:         tw.map "div" %b, %
// CHECK:         %[[R:.*]] = tw.matmul %x, %{{.*}}, %{{.*}} :
// CHECK-NEXT:    tw.return %[[R]]
func.func @product(%x: !tw.tensor<[s0, 3], f32>, %w: !tw.tensor<[3, 4], f32>, %b: !tw.tensor<[4], f32>, %s: !tw.tensor<[4], f32>) -> !tw.tensor<[s0, 4], f32> attributes {frozen = #tw.dims<[1, 2, 3]>} {
  %y = tw.matmul %x, %w, %b : (!tw.tensor<[s0, 3], f32>, !tw.tensor<[3, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[s0, 4], f32>
  %z = tw.map "div" %y, %s : (!tw.tensor<[s0, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[s0, 4], f32>
  tw.return %z : !tw.tensor<[s0, 4], f32>
}

// The scale is another in each call.
// CHECK-LABEL: func.func @not_frozen
// CHECK:         %y = tw.matmul %x, %w :
// CHECK-NEXT:    tw.map "mul" %y, %s
func.func @not_frozen(%x: !tw.tensor<[2, 3], f32>, %w: !tw.tensor<[3, 4], f32>, %s: !tw.tensor<[4], f32>) -> !tw.tensor<[2, 4], f32> attributes {frozen = #tw.dims<[1]>} {
  %y = tw.matmul %x, %w : (!tw.tensor<[2, 3], f32>, !tw.tensor<[3, 4], f32>) -> !tw.tensor<[2, 4], f32>
  %z = tw.map "mul" %y, %s : (!tw.tensor<[2, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[2, 4], f32>
  tw.return %z : !tw.tensor<[2, 4], f32>
}

// Not one number for each channel.
// CHECK-LABEL: func.func @by_row
// CHECK:         %y = tw.matmul %x, %w :
// CHECK-NEXT:    tw.map "mul" %y, %s
func.func @by_row(%x: !tw.tensor<[4, 3], f32>, %w: !tw.tensor<[3, 4], f32>, %s: !tw.tensor<[4, 1], f32>) -> !tw.tensor<[4, 4], f32> attributes {frozen = #tw.dims<[1, 2]>} {
  %y = tw.matmul %x, %w : (!tw.tensor<[4, 3], f32>, !tw.tensor<[3, 4], f32>) -> !tw.tensor<[4, 4], f32>
  %z = tw.map "mul" %y, %s : (!tw.tensor<[4, 4], f32>, !tw.tensor<[4, 1], f32>) -> !tw.tensor<[4, 4], f32>
  tw.return %z : !tw.tensor<[4, 4], f32>
}

// CHECK-LABEL: func.func @read_twice
// CHECK:         %y = tw.matmul %x, %w :
// CHECK-NEXT:    tw.map "mul" %y, %s
func.func @read_twice(%x: !tw.tensor<[2, 3], f32>, %w: !tw.tensor<[3, 4], f32>, %s: !tw.tensor<[4], f32>) -> (!tw.tensor<[2, 4], f32>, !tw.tensor<[2, 4], f32>) attributes {frozen = #tw.dims<[1, 2]>} {
  %y = tw.matmul %x, %w : (!tw.tensor<[2, 3], f32>, !tw.tensor<[3, 4], f32>) -> !tw.tensor<[2, 4], f32>
  %z = tw.map "mul" %y, %s : (!tw.tensor<[2, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[2, 4], f32>
  tw.return %y, %z : !tw.tensor<[2, 4], f32>, !tw.tensor<[2, 4], f32>
}
