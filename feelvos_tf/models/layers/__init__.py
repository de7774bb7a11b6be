"""The layers the network is built of, with the variable names of the 2019 release."""
