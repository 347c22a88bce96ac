// RUN: tilewright opt %s -p "attention" | filecheck %s

// The two products and all between them become one region; the caller gets the last view of the result.
// CHECK-LABEL: func.func @plain
// CHECK-NEXT:    %out = tw.fused {kind = "attention", numerics = "reassociates"}
// CHECK-NEXT:      %s = tw.matmul %q, %k
// CHECK-NEXT:      %m = tw.reduce "max" %s
// CHECK-NEXT:      %d = tw.map "sub" %s, %m
// CHECK-NEXT:      %e = tw.map "exp" %d
// CHECK-NEXT:      %t = tw.reduce "sum" %e
// CHECK-NEXT:      %p = tw.map "div" %e, %t
// CHECK-NEXT:      %r = tw.matmul %p, %v
// CHECK-NEXT:      %out_1 = tw.permute %r
// CHECK-NEXT:      tw.yield %out_1
// CHECK-NEXT:    }
// CHECK-NEXT:    tw.return %out
func.func @plain(%q: !tw.tensor<[2, 5, 3], f32>, %k: !tw.tensor<[2, 3, 7], f32>, %v: !tw.tensor<[2, 7, 4], f32>) -> !tw.tensor<[5, 2, 4], f32> {
  %s = tw.matmul %q, %k : (!tw.tensor<[2, 5, 3], f32>, !tw.tensor<[2, 3, 7], f32>) -> !tw.tensor<[2, 5, 7], f32>
  %m = tw.reduce "max" %s {dims = #tw.dims<[2]>} : !tw.tensor<[2, 5, 7], f32> -> !tw.tensor<[2, 5, 1], f32>
  %d = tw.map "sub" %s, %m : (!tw.tensor<[2, 5, 7], f32>, !tw.tensor<[2, 5, 1], f32>) -> !tw.tensor<[2, 5, 7], f32>
  %e = tw.map "exp" %d : (!tw.tensor<[2, 5, 7], f32>) -> !tw.tensor<[2, 5, 7], f32>
  %t = tw.reduce "sum" %e {dims = #tw.dims<[2]>} : !tw.tensor<[2, 5, 7], f32> -> !tw.tensor<[2, 5, 1], f32>
  %p = tw.map "div" %e, %t : (!tw.tensor<[2, 5, 7], f32>, !tw.tensor<[2, 5, 1], f32>) -> !tw.tensor<[2, 5, 7], f32>
  %r = tw.matmul %p, %v : (!tw.tensor<[2, 5, 7], f32>, !tw.tensor<[2, 7, 4], f32>) -> !tw.tensor<[2, 5, 4], f32>
  %out = tw.permute %r {dims = #tw.dims<[1, 0, 2]>} : !tw.tensor<[2, 5, 4], f32> -> !tw.tensor<[5, 2, 4], f32>
  tw.return %out : !tw.tensor<[5, 2, 4], f32>
}

// A softmax over the queries is none over the keys.
// CHECK-LABEL: func.func @over_queries
// CHECK-NOT:     tw.fused
func.func @over_queries(%q: !tw.tensor<[5, 3], f32>, %k: !tw.tensor<[3, 7], f32>, %v: !tw.tensor<[7, 4], f32>) -> !tw.tensor<[5, 4], f32> {
  %s = tw.matmul %q, %k : (!tw.tensor<[5, 3], f32>, !tw.tensor<[3, 7], f32>) -> !tw.tensor<[5, 7], f32>
  %e = tw.map "exp" %s : (!tw.tensor<[5, 7], f32>) -> !tw.tensor<[5, 7], f32>
  %t = tw.reduce "sum" %e {dims = #tw.dims<[0]>} : !tw.tensor<[5, 7], f32> -> !tw.tensor<[1, 7], f32>
  %p = tw.map "div" %e, %t : (!tw.tensor<[5, 7], f32>, !tw.tensor<[1, 7], f32>) -> !tw.tensor<[5, 7], f32>
  %r = tw.matmul %p, %v : (!tw.tensor<[5, 7], f32>, !tw.tensor<[7, 4], f32>) -> !tw.tensor<[5, 4], f32>
  tw.return %r : !tw.tensor<[5, 4], f32>
}
