// RUN: tilewright opt %s -p "dce" | filecheck %s

// CHECK-LABEL: func.func @chain
// CHECK-NEXT:    %b = tw.map "neg" %x
// CHECK-NEXT:    tw.return %b
func.func @chain(%x: !tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32> {
  %a = tw.map "exp" %x : (!tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32>
  %b = tw.map "neg" %x : (!tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32>
  %c = tw.reduce "sum" %a {dims = #tw.dims<[0]>} : !tw.tensor<[s0], f32> -> !tw.tensor<[1], f32>
  tw.return %b : !tw.tensor<[s0], f32>
}

// CHECK-LABEL: func.func @calls
// CHECK-NOT:     aten.sort
// CHECK:         aten.bernoulli
// CHECK:         aten._assert_async
func.func @calls(%x: !tw.tensor<[4], f32>) -> !tw.tensor<[4], f32> {
  %v, %i = tw.aten "aten.sort.default" %x {arguments = "(['%0'], {})", reason = "test", strides = [#tw.dims<[1]>, #tw.dims<[1]>]} : (!tw.tensor<[4], f32>) -> (!tw.tensor<[4], f32>, !tw.tensor<[4], i64>)
  %r = tw.aten "aten.bernoulli.default" %x {arguments = "(['%0'], {})", reason = "test", strides = [#tw.dims<[1]>]} : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
  tw.aten "aten._assert_async.default" %x {arguments = "(['%0'], {})", reason = "test", strides = []} : (!tw.tensor<[4], f32>) -> ()
  tw.return %x : !tw.tensor<[4], f32>
}
