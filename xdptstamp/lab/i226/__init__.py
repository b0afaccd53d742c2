# SPDX-License-Identifier: GPL-2.0-only
"""A virtual Intel I226: a vfio-user server that the unmodified igc driver binds to.

The rooms, from the socket to the wire: ``vfio_user`` (protocol), ``dma`` (the guest's memory),
``pci`` (config space), ``port`` (one controller: its register file), ``interrupts``, ``phy``,
``statistics``, ``clock`` (PHC), ``txstamps``, ``txqueue``, ``rxqueue``, ``filters``,
``offloads``, ``wire``, ``faults``, ``truth`` (what really happened), ``server`` (the process).
``registers`` has the names of the driver's headers.

What a guest writes is untrusted: an address, a ring size or a descriptor that makes no sense is
counted and dropped.
"""
