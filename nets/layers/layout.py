"""Convolutions, pools and padding without variables, in one data format."""

from __future__ import annotations

from quant.backend import tf

# Values of the widest vector of a CPU.
VECTOR = 16


class Layout:
    """Data format and padding rule of a network.

    Args:
        data_format: ``NHWC`` or ``NCHW``; inputs and outputs of every method have it.
        padding: of strided windows: ``same`` (TensorFlow's rule, more at the bottom and right) or
            ``symmetric`` (PyTorch networks: kernel // 2 on all sides).
        training: whether gradients are going to be computed.

    Attributes:
        convolved: results of the convolutions.
        ends: results of the stem and of the blocks.
    """

    def __init__(self, data_format: str, padding: str, training: bool):
        self.data_format = data_format
        self.padding = padding
        self.training = training
        self.convolved: list[tf.Tensor] = []
        self.ends: list[tf.Tensor] = []

    @property
    def axis(self) -> int:
        """Axis of the channels."""
        return self.data_format.index('C')

    @property
    def space(self) -> tuple[int, int]:
        """Axes of height and width."""
        return self.data_format.index('H'), self.data_format.index('W')

    def channels(self, x: tf.Tensor) -> int:
        """Number of channels of images."""
        return x.shape[self.axis]

    def spatial(self, x: tf.Tensor) -> tuple[int, int]:
        """Height and width of images."""
        height, width = self.space
        return x.shape[height], x.shape[width]

    def convolve(self, x: tf.Tensor, w: tf.Tensor, stride: int) -> tf.Tensor:
        """Convolution, computed in the type of ``x``.

        Args:
            x: images.
            w: [k, k, in, out].
            stride: of the window.
        """
        kernel = tf.cast(w, x.dtype)
        if self._strides_by_slices(x, w, stride):
            x = x[:, ::stride, ::stride]
            stride = 1
        strides = self.strides(stride)
        pads = self.pads(w.shape[0], stride)
        y = tf.nn.conv2d(x, kernel, strides, pads, data_format=self.data_format)
        self.convolved.append(y)
        return y

    def _strides_by_slices(self, x: tf.Tensor, w: tf.Tensor, stride: int) -> bool:
        """Whether a convolution is to read the pixels that its stride leaves, without a stride.

        oneDNN's gradient of such kernels of one pixel writes beyond its memory: fewer channels than
        a vector has values, several threads, and images that these cannot share evenly. The process
        dies, then or later (TensorFlow 2.21).
        """
        on_cpu = self.data_format == 'NHWC'
        channels = self.channels(x)
        # Of a width that is drawn, nobody knows.
        few = channels is None or channels < VECTOR
        narrow = stride > 1 and w.shape[0] == 1 and few
        return self.training and on_cpu and narrow

    def filter(self, x: tf.Tensor, w: tf.Tensor, stride: int) -> tf.Tensor:
        """Depthwise convolution, computed in the type of ``x``.

        Args:
            x: images.
            w: [k, k, C, 1].
            stride: of the window.
        """
        kernel = tf.cast(w, x.dtype)
        strides = self.strides(stride)
        pads = self.pads(w.shape[0], stride)
        y = tf.nn.depthwise_conv2d(x, kernel, strides, pads, data_format=self.data_format)
        self.convolved.append(y)
        return y

    def end(self, x: tf.Tensor) -> tf.Tensor:
        """The result of a block, or of the stem, as it is."""
        self.ends.append(x)
        return x

    def max_pool(self, x: tf.Tensor, kernel: int, stride: int) -> tf.Tensor:
        """Maximum over windows.

        Args:
            x: images.
            kernel: side of a window.
            stride: between windows.
        """
        window = self.strides(kernel)
        strides = self.strides(stride)
        pads = self.pads(kernel, stride)
        return tf.nn.max_pool2d(x, window, strides, pads, data_format=self.data_format)

    def avg_pool(self, x: tf.Tensor, stride: int) -> tf.Tensor:
        """Average over disjoint squares, as many as a strided convolution has outputs."""
        window = self.strides(stride)
        return tf.nn.avg_pool2d(x, window, window, 'SAME', data_format=self.data_format)

    def global_pool(self, x: tf.Tensor) -> tf.Tensor:
        """[N, C] float32 mean over all positions."""
        x = tf.cast(x, tf.float32)
        if self.data_format == 'NCHW':
            return tf.reduce_mean(x, axis=[2, 3])
        # One large window takes half the time of reduce_mean on the CPU: every gate begins with a
        # pool.
        window = [1, *x.shape[1:3], 1]
        return tf.nn.avg_pool(x, window, window, 'VALID')[:, 0, 0]

    def per_channel(self, values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Values [N, C] in the shape in which they multiply ``x``, [N, C] or images."""
        if x.shape.rank == 2:
            return values
        if self.data_format == 'NHWC':
            return values[:, None, None]
        return values[:, :, None, None]

    def pad_channels(self, x: tf.Tensor, channels: int) -> tf.Tensor:
        """``x`` with zero channels appended."""
        paddings = [[0, 0]] * 4
        paddings[self.axis] = [0, channels - self.channels(x)]
        return tf.pad(x, paddings)

    def strides(self, stride: int) -> list[int]:
        """A stride, or the side of a window, on all four axes."""
        sides = [1, 1, 1, 1]
        for axis in self.space:
            sides[axis] = stride
        return sides

    def pads(self, kernel: int, stride: int) -> str | list[list[int]]:
        """Padding of a window as TensorFlow takes it."""
        # Without stride both rules are the same, and TensorFlow's has the faster kernels.
        if self.padding == 'same' or stride == 1:
            return 'SAME'
        paddings = [[0, 0]] * 4
        for axis in self.space:
            paddings[axis] = [kernel // 2, kernel // 2]
        return paddings
