"""Fashion-MNIST: Xiao, Rasul & Vollgraf (2017). 70,000 pictures of clothes in the format of MNIST."""

from typing import ClassVar

from vaelab.data.datasets.mnist import MNIST


class FashionMNIST(MNIST):
    """Fashion-MNIST, split 50,000 / 10,000 / 10,000 as MNIST is: the last 10,000 training pictures validate.

    The event shape is `[1, 28, 28]`, with 256 levels.
    """

    name = "fashion_mnist"
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )
    hashes: ClassVar = {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }
