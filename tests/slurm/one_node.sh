#!/usr/bin/env bash
# A SLURM cluster of this machine alone, with a GPU that is none (/dev/null), without systemd, as root. It overwrites
# /etc/slurm: for throw-away machines. Usage: one_node.sh up|down
set -euo pipefail
if [ "$1" = down ]; then
    pkill -x slurmd || true
    pkill -x slurmctld || true
    # Else SLURM's commands, which Snakemake's plugin calls whenever it is imported, wait for a cluster that is gone.
    rm -f /etc/slurm/slurm.conf /etc/slurm/gres.conf
    exit 0
fi
host=$(hostname -s)
memory_mb=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
install -d -o munge -g munge -m755 /run/munge
install -d -o slurm -g slurm /var/log/slurm /var/lib/slurm/slurmctld
install -d /var/spool/slurmd /etc/slurm
pgrep -x munged >/dev/null || setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/var/lib/slurm/slurmctld.pid
SlurmdPidFile=/var/spool/slurmd/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
MinJobAge=86400
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=$memory_mb Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$host MaxTime=INFINITE State=UP
CONF
printf 'AutoDetect=off\nNodeName=%s Name=gpu File=/dev/null\n' "$host" >/etc/slurm/gres.conf
rm -rf /var/lib/slurm/slurmctld/*
/usr/sbin/slurmctld -c
/usr/sbin/slurmd -c
for _ in $(seq 30); do
    sinfo -h -o %T 2>/dev/null | grep -q idle && exit 0
    sleep 1
done
sinfo -N -l
tail -5 /var/log/slurm/*.log
exit 1
