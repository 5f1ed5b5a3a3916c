using MLNetLora;
using MLNetLora.Runtime;

/// <summary>Whether a GPU can be used here, and if not, what is missing: apart from the rest, which must not touch the library.</summary>
internal static class DeviceProbe
{
    public static int Use(string device, bool fused)
    {
        try
        {
            CudaProvider.Require((CudaDevice)Device.Parse(device) with { FusedKernels = fused });
            Console.WriteLine("usable");
            return 0;
        }
        catch (DeviceException exception)
        {
            Console.WriteLine(exception.Message);
            return 1;
        }
    }
}
